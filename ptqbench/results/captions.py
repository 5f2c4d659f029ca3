"""The sentences under a comparison: what was held equal, what was not, and how to read the numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ptqbench.results import formatting
from ptqbench.results.record import IMAGES, CellRecord, RunRecord
from ptqbench.results.rows import Row, metric_names

SIMULATED = (
    "Quantization is simulated: values are rounded to their grids, arithmetic stays floating point; "
    "weight sizes are counted, not measured."
)

LEADS = (
    "\N{DAGGER} leads at these bits on these calibrations: its interval over images excludes the value of every other row, and "
    "no seed of another row reaches any of its own. Whether the method is better, the differences say."
)
"""What the mark of `rows` means, and what it does not."""


def comparison_notes(run: RunRecord, rows: Sequence[Row]) -> list[str]:
    """Notes in reading order, one sentence or two each, as plain text."""
    notes = [SIMULATED, _sampling(run), _intervals(rows), _seeds(rows), _budget(rows), _evaluations(rows)]
    if any(row.method == run.baseline for row in rows):
        notes.append("* baseline method.")
    if any(row.best for row in rows):
        notes.append(LEADS)
    return [note for note in notes if note]


def _sampling(run: RunRecord) -> str:
    """What the protocol says of the images; a record without some of it leaves that part out."""
    said = (
        ("images", "{} images per row"),
        ("steps", "{} sampling steps"),
        ("grid", "{} grid"),
        ("eta", "eta {:g}"),
        ("image seed", "image seed {}"),
    )
    facts = [text.format(run.protocol[key]) for key, text in said if key in run.protocol]
    return "; ".join(filter(None, [", ".join(facts), "image i starts from the same noise in every row."]))


def _intervals(rows: Sequence[Row]) -> str:
    if not metric_names(rows):
        return ""
    text = "\N{PLUS-MINUS SIGN} is half of a 95 % interval over images"
    others: dict[str, list[str]] = {}
    for name, unit in {name: x.unit for row in rows for name, x in row.metrics.items()}.items():
        if unit != IMAGES:
            others.setdefault(unit, []).append(name)
    if any(not formatting.centred(x.value, x.low, x.high) for row in rows for x in row.metrics.values()):
        text += ", [a, b] the interval itself where it is not symmetric"
    if others:
        text += f" ({'; '.join(', '.join(names) + f': over {unit}' for unit, names in others.items())})"
    if any(summary.spread is not None for row in rows for summary in row.metrics.values()):
        return text + "; / is the standard deviation over calibration seeds, apart from it."
    return text + "."


def _seeds(rows: Sequence[Row]) -> str:
    seeds = sorted({cell.seed for row in rows if not row.full_precision for cell in (*row.cells, *row.failed)})
    if not seeds:
        return ""
    if len(seeds) == 1:
        return f"One calibration seed ({seeds[0]}): the spread over calibration seeds is not known."
    return f"Calibration seeds {', '.join(map(str, seeds))}; values are means over them, never the best."


def _budget(rows: Sequence[Row]) -> str:
    """Equal budgets in one sentence, or who had how much; rows that need no calibration data are named apart."""
    without = ", ".join(row.label for row in rows if not row.full_precision and row.cells and not any(map(_data, row.cells)))
    apart = f" Needs no calibration data: {without}." if without else ""
    totals = _totals(rows, _samples)
    if not totals:
        return apart.strip()
    if len(totals) == 1:
        return f"Calibration budget: equal, {next(iter(totals))} samples per row (training + validation).{apart}"
    return f"Calibration budgets are NOT equal (training + validation samples): {_listed(totals)}.{apart}"


def _evaluations(rows: Sequence[Row]) -> str:
    """The same for the denoiser's evaluations."""
    totals = _totals(rows, lambda cell: cell.budget.denoiser_evaluations)
    if len(totals) < 2:
        return f"Denoiser evaluations for calibration: equal, {next(iter(totals))} per row." if totals else ""
    return f"Denoiser evaluations for calibration (samples times passes) are NOT equal: {_listed(totals)}."


def _totals(rows: Sequence[Row], of: Callable[[CellRecord], int]) -> dict[int, list[str]]:
    """The rows that used calibration data, by how much, the largest amount first."""
    totals: dict[int, list[str]] = {}
    for row in rows:
        if not row.full_precision:
            for amount in dict.fromkeys(of(cell) for cell in row.cells if _data(cell)):
                totals.setdefault(amount, []).append(row.label)
    return dict(sorted(totals.items(), reverse=True))


def _listed(totals: Mapping[int, Sequence[str]]) -> str:
    return "; ".join(f"{amount}: {', '.join(labels)}" for amount, labels in totals.items())


def _samples(cell: CellRecord) -> int:
    return cell.budget.training + cell.budget.validation


def _data(cell: CellRecord) -> bool:
    """Whether the cell saw calibration data: samples, or trajectories that a sampler hook was fitted on."""
    return _samples(cell) > 0 or cell.budget.denoiser_evaluations > 0
