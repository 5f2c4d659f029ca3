"""What a reader of a table has to know of single cells: properties of the record that no column shows."""

from __future__ import annotations

from collections.abc import Iterator

from ptqbench.results.record import RunRecord


def remarks(run: RunRecord) -> list[str]:
    """One sentence for each thing that is odd, with the cells that it concerns."""
    return [*_arithmetic(run), *_unseen_attention(run)]


def _arithmetic(run: RunRecord) -> Iterator[str]:
    """What numbers were computed in, where that is not what a reader takes for granted."""
    if words := run.protocol.get("arithmetic", ""):
        yield f"All numbers were computed under other arithmetic than usual: {words}."


def _unseen_attention(run: RunRecord) -> Iterator[str]:
    """Attentions whose products no grid reaches, where activations are on grids."""
    # The plan's grids are torch's: listings and help do without.
    from ptqbench.quant.plan import UNSEEN_ATTENTION

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
