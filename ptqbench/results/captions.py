"""The sentences under a comparison: what was held equal, what was not, and how to read the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from ptqbench.results import formatting
from ptqbench.results.fits import Finish
from ptqbench.results.record import EXECUTED, IMAGES, CellRecord, RunRecord
from ptqbench.results.remarks import remarks
from ptqbench.results.rows import Row, failures, metric_names

SIMULATED = (
    "Quantization is simulated: values are rounded to their grids, arithmetic stays floating point; "
    "weight sizes are counted, not measured."
)

UNFINISHED = "\N{DAGGER}"
"""Marks rows whose fits ended before their roundings were decided."""

MOST_UNFINISHED = 3
"""Rows that are told by name where fits are unfinished, those furthest from it."""

MOST_NOTES = 6
"""Notes under the main table; what is beyond stands in the tables behind `ALL`."""

ALL = "`ptqbench show RUN --all`"


def overview_notes(run: RunRecord, rows: Sequence[Row], alone: bool) -> list[str]:
    """At most six notes under the main table: what went wrong first, then how to read it, and where the rest is."""
    rest = f"Spreads over seeds, what could have been seen, budgets, published figures: {ALL}." if alone else ""
    reading = [note for note in (_executed(run), _reading(run, rows), _unequal(rows), rest) if note]
    wrong = [*_failures(rows), *_refusals(rows), *_unfinished(rows), *remarks(run)]
    room = MOST_NOTES - len(reading)
    if len(wrong) > room:
        wrong = [*wrong[: room - 1], f"{len(wrong) - room + 1} more notes of this kind: {ALL}."]
    return [*wrong, *reading]


def _executed(run: RunRecord) -> str:
    """The rows whose numbers are not of a simulation."""
    names = dict.fromkeys(f"{cell.method} {cell.bits}" for cell in run.cells if cell.execution == EXECUTED)
    return f"Executed on integers by their library, and not simulated: {', '.join(names)}." if names else ""


def _failures(rows: Sequence[Row]) -> list[str]:
    """The rows that failed, wholly or in some seeds, one note for each reason."""
    by_reason: dict[str, list[str]] = {}
    for row in rows:
        for why, seeds in failures(row.failed).items():
            of = f" of {len(row.cells) + len(row.failed)}, the others count" if row.cells else ""
            by_reason.setdefault(why, []).append(f"{row.label} ({seeds}{of})" if not row.full_precision else row.label)
    return [f"failed: {', '.join(where)}: {why}" for why, where in by_reason.items()]


def _refusals(rows: Sequence[Row]) -> list[str]:
    """Numbers that must not stand beside the others, one note for each reason."""
    by_reason: dict[str, list[str]] = {}
    for row in rows:
        for why in row.refused.values():
            by_reason.setdefault(why, []).append(row.label)
    return [f"not comparable: {', '.join(where)}: {why}" for why, where in by_reason.items()]


def _unfinished(rows: Sequence[Row]) -> Iterator[str]:
    """The rows whose fits ended before their roundings were decided: their numbers say little of the method."""
    found = [(row, finish) for row in rows if (finish := row.unfinished) is not None]
    if not found:
        return
    worst = sorted(found, key=lambda pair: pair[1].distance, reverse=True)[:MOST_UNFINISHED]
    named = ", ".join(f"{row.label} ({_open(finish)})" for row, finish in worst)
    more = f" and {len(found) - len(worst)} others" if len(found) > len(worst) else ""
    yield (
        f"{UNFINISHED} fits are unfinished, which says little of a method: {named}{more}. More iterations or a higher rate "
        f"finish them; unit by unit: `ptqbench study fits RUN`."
    )


def _open(finish: Finish) -> str:
    """ "21 % of roundings undecided, hardening costs 42 % of the loss"."""
    words = f"{formatting.significant(100 * finish.undecided, 2)} % of roundings undecided"
    if finish.hardening is None:
        return words
    return f"{words}, hardening costs {formatting.significant(100 * finish.hardening, 2)} %"


def _reading(run: RunRecord, rows: Sequence[Row]) -> str:
    metrics = [x for row in rows for x in row.metrics.values()]
    if not metrics:
        return ""
    over = " or ".join(dict.fromkeys(x.unit for x in metrics))
    if any(x.spread is not None for x in metrics):
        over += ", and calibration seeds together"
    text = f"\N{PLUS-MINUS SIGN} is half of a 95 % interval over {over}"
    if any(not formatting.centred(x.value, x.low, x.high) for x in metrics):
        text += ", [a, b] the interval where it is not symmetric"
    if not run.comparisons:
        return f"{text}."
    differences = f"differences are method minus {run.baseline} from the same noise"
    return f"{text}; {differences}. better, worse: significant at 5 % after Holm's correction within the metric."


def _unequal(rows: Sequence[Row]) -> str:
    """What calibration got, with a word where it was not equal."""
    parts = []
    # Rows whose weights learn do not train on all of theirs.
    held_out = any(cell.budget.validation for row in rows for cell in row.cells)
    samples = "samples (training + validation)" if held_out else "samples"
    for what, totals in ((samples, _totals(rows, _samples)), ("denoiser evaluations", _totals(rows, _spent))):
        if len(totals) > 1:
            parts.append(f"{what} are NOT equal, {min(totals)} to {max(totals)} per row")
        elif totals:
            parts.append(f"{what} are equal, {next(iter(totals))} per row")
    return f"Calibration {', '.join(parts)}." if parts else ""


def comparison_notes(run: RunRecord, rows: Sequence[Row]) -> list[str]:
    """Notes in reading order, one sentence or two each, as plain text."""
    notes = [SIMULATED, _sampling(run), _intervals(rows), _seeds(rows), _budget(rows), _evaluations(rows)]
    if any(row.method == run.baseline for row in rows):
        notes.append("* baseline method.")
    if any(row.unfinished for row in rows):
        notes.append(f"{UNFINISHED} fits that are unfinished.")
    return [note for note in notes if note]


def _sampling(run: RunRecord) -> str:
    """What the protocol says of the images; a record without some of it leaves that part out."""
    said = (
        ("images", "{} images per row"),
        ("solver", "solver {}"),
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
    totals = _totals(rows, _spent)
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


def _spent(cell: CellRecord) -> int:
    return cell.budget.denoiser_evaluations


def _data(cell: CellRecord) -> bool:
    """Whether the cell saw calibration data: samples, or trajectories that a sampler hook was fitted on."""
    return _samples(cell) > 0 or cell.budget.denoiser_evaluations > 0
