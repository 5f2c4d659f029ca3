"""The second table of a run: every method's difference to the baseline, with a verdict."""

from __future__ import annotations

from collections.abc import Sequence

from ptqbench.results import formatting
from ptqbench.results.compare import UNSEEN
from ptqbench.results.record import Comparison, RunRecord
from ptqbench.results.rows import metric_names, rows_of
from ptqbench.results.tables import Cell, Column, Table, key_cells, metric_column

INSIDE = "\N{ALMOST EQUAL TO}"
"""Stands after a difference that is inside the noise floor."""

WORDS = {UNSEEN: "none"}
"""Verdicts that a table says in fewer words than the record."""

READING = (
    "\N{PLUS-MINUS SIGN} is half of the 95 % interval of the difference; both methods start from the same noise, "
    "and what it does to both cancels."
)
VERDICTS = (
    "better, worse: significant at 5 % after Holm's correction over all methods and bits of a metric ({}). "
    "none (x): no difference seen; a true difference of x would have been seen with a chance of 80 %."
)
UNCORRECTED = "Intervals are not corrected: one that excludes 0 may stand beside none."
ONE_SEED = (
    "One calibration seed: verdicts are about these very calibrations, and say nothing about the methods "
    "under other calibration seeds{}."
)
FLOOR = (
    f"{INSIDE} inside the noise floor: no larger than the full-precision model's own difference between two blocks of noise."
)


def differences(run: RunRecord) -> list[Table]:
    """The table "Differences to BASELINE", or nothing for a run without comparisons."""
    found = {(c.method, c.bits, c.variant, c.metric): c for c in run.comparisons}
    if not found:
        return []
    every = rows_of(run)
    rows = [row for row in every if any(key[:3] == row.key for key in found)]
    compared = {c.metric for c in run.comparisons}
    metrics = [metric_column(name, every) for name in metric_names(every) if name in compared]
    columns = [Column("method", "method", text=True), Column("bits", "bits", text=True), *map(_heading, metrics)]
    body = [
        [*key_cells(row, run.baseline), *(difference_cell(found.get((*row.key, c.key)), c.exponent) for c in metrics)]
        for row in rows
    ]
    title = f"Differences to {run.baseline} (method minus {run.baseline})"
    return [Table(title, columns, body, difference_notes(run.comparisons))]


def difference_cell(comparison: Comparison | None, exponent: int = 0) -> Cell:
    """Difference, half-width and verdict in the unit 10^exponent."""
    if comparison is None:
        return Cell()
    if comparison.difference is None or comparison.low is None or comparison.high is None:
        return Cell(comparison.verdict, note=f"{comparison.metric} {comparison.reason}")
    unit = 10.0**-exponent
    text = formatting.difference(comparison.difference * unit, comparison.low * unit, comparison.high * unit)
    text += f" {WORDS.get(comparison.verdict, comparison.verdict)}".rstrip()
    if comparison.verdict == UNSEEN and comparison.detectable:
        text += f" ({formatting.significant(comparison.detectable * unit, 2)})"
    if comparison.inside_floor:
        text += f" {INSIDE}"
    return Cell(text, comparison.difference, comparison.low, comparison.high)


def difference_notes(found: Sequence[Comparison]) -> list[str]:
    """How to read the differences, in a sentence or two each; only what applies."""
    tested = [c for c in found if c.difference is not None]
    if not tested:
        return []
    most = max(sum(c.metric == name for c in tested) for name in {c.metric for c in tested})
    notes = [READING, VERDICTS.format(f"{most} comparison{'s' if most > 1 else ''}")]
    if any(c.verdict == UNSEEN and c.difference and abs(c.difference) > _half(c) for c in tested):
        notes.append(UNCORRECTED)
    single = [c for c in tested if c.this_calibration_only]
    if single:
        named = dict.fromkeys(" ".join(x for x in (c.method, c.bits, c.variant) if x) for c in single)
        notes.append(ONE_SEED.format("" if len(single) == len(tested) else f" (this concerns {', '.join(named)})"))
    if len(single) < len(tested):
        notes.append(
            "The spread over calibration seeds is pooled over the methods of the same bits, in units of their image noise."
        )
    if any(c.inside_floor for c in tested):
        notes.append(FLOOR)
    return notes


def _half(comparison: Comparison) -> float:
    return ((comparison.high or 0.0) - (comparison.low or 0.0)) / 2


def _heading(column: Column) -> Column:
    """The metric's heading without its count, which the main table has; the unit stays."""
    unit = ", ".join(part for part in column.remark.split(", ") if not part.startswith("n="))
    return Column(column.key, column.title, column.better, unit, column.exponent)
