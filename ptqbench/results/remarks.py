"""What a reader of a table has to know of single cells: properties of the record that no column shows."""

from __future__ import annotations

from collections.abc import Iterator

from ptqbench.quant.ledger import UNSEEN_ATTENTION
from ptqbench.results.record import RunRecord

SHARED_PROMPTS = "Calibration, held-out trajectories and images have prompts in common"

MOST_SITES = 3
"""Sites that a remark names; `ptqbench show RUN --cell ID` has all."""


def remarks(run: RunRecord) -> list[str]:
    """One sentence for each thing that is odd, with the cells that it concerns."""
    return [*_arithmetic(run), *_shared_prompts(run), *_constant_sites(run), *_unseen_attention(run)]


def _arithmetic(run: RunRecord) -> Iterator[str]:
    """What numbers were computed in, where that is not what a reader takes for granted."""
    if words := run.protocol.get("arithmetic", ""):
        yield f"All numbers were computed under other arithmetic than usual: {words}."


def _shared_prompts(run: RunRecord) -> Iterator[str]:
    """That a text-conditioned model was judged on what it was calibrated on."""
    if words := run.protocol.get("shared prompts", ""):
        yield f"{SHARED_PROMPTS}: {words}."


def _constant_sites(run: RunRecord) -> Iterator[str]:
    """Sites that nothing passes, one sentence for rows with the same ones; of several seeds, any of their sites."""
    steps = run.protocol.get("steps")
    rows: dict[tuple[str, str, str], dict[str, int]] = {}
    for cell in run.cells:
        if cell.constant:
            found = rows.setdefault((cell.method, cell.bits, cell.variant), {})
            found.update({name: max(count, found.get(name, 0)) for name, count in cell.constant.items()})
    alike: dict[tuple[tuple[str, int], ...], list[str]] = {}
    for key, found in rows.items():
        alike.setdefault(tuple(sorted(found.items())), []).append(" ".join(filter(None, key)))
    for sites, labels in alike.items():
        said = [name if count == steps else f"{name} at {count} of {steps} steps" for name, count in sites]
        more = f" and {len(said) - MOST_SITES} more" if len(said) > MOST_SITES else ""
        yield (
            f"{', '.join(labels)}: {', '.join(said[:MOST_SITES])}{more} give{'s' if len(said) == 1 else ''} one value whatever "
            "comes in, since the grid is too coarse for it."
        )


def _unseen_attention(run: RunRecord) -> Iterator[str]:
    """Attentions whose products no grid reaches, where activations are on grids."""
    for cell in run.cells:
        on_grids = any(row.get("activation") for row in cell.ledger)
        names = [row["name"] for row in cell.ledger if row.get("site") == UNSEEN_ATTENTION]
        if on_grids and names:
            many = f"{len(names)} attentions" if len(names) > 1 else "An attention"
            yield (
                f"{many} ({names[0]}{', ...' if len(names) > 1 else ''}) cannot be seen: the products stay in floating point "
                "in every row, and no count of operations has them."
            )
            return
