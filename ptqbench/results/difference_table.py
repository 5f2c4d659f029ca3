"""Differences to the baseline: with a verdict, how to read them, and what each comparison could have seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ptqbench.results import formatting
from ptqbench.results.compare import BETTER, UNSEEN, WORSE, noise_floor
from ptqbench.results.record import Comparison, RunRecord
from ptqbench.results.rows import metric_names, rows_of
from ptqbench.results.tables import Cell, Column, Table, key_cells, metric_column

WORDS = {UNSEEN: "unclear"}
"""Verdicts in a word that needs no legend: not having seen a difference does not say that there is none."""

READING = (
    "\N{PLUS-MINUS SIGN} is half of the 95 % interval of the difference; both methods start from the same noise, "
    "and what it does to both cancels."
)
VERDICTS = "better, worse: significant at 5 % after Holm's correction over all methods and bits of a metric ({})."
UNCORRECTED = "Intervals are not corrected: one that excludes 0 may stand beside unclear."
ONE_SEED = (
    "One calibration seed: verdicts are about these very calibrations, and say nothing about the methods "
    "under other calibration seeds{}."
)
DETECTABLE = "A true difference of this size would have been seen with a chance of 80 %."
FLOOR = "noise floor: standard error of the full-precision model's own difference between two blocks of noise."


def sensitivity(run: RunRecord) -> list[Table]:
    """What the comparisons with the baseline could have seen, or nothing for a run without comparisons."""
    found = {(c.method, c.bits, c.variant, c.metric): c for c in run.comparisons}
    if not found:
        return []
    every = rows_of(run)
    rows = [row for row in every if any(key[:3] == row.key for key in found)]
    compared = {c.metric for c in run.comparisons}
    metrics = [_heading(metric_column(name, every)) for name in metric_names(every) if name in compared]
    columns = [Column("method", "method", text=True), Column("bits", "bits", text=True), *metrics]
    body = [
        [*key_cells(row, run.baseline), *(_detectable_cell(found.get((*row.key, c.key)), c.exponent) for c in metrics)]
        for row in rows
    ]
    body.append([Cell("noise floor"), Cell(), *(_floor_cell(run, column) for column in metrics)])
    title = f"Differences to {run.baseline} that would have been seen"
    return [Table(title, columns, body, [DETECTABLE, FLOOR, *difference_notes(run.comparisons)])]


def difference_cell(comparison: Comparison | None, exponent: int = 0) -> Cell:
    """Difference, half-width and verdict in the unit 10^exponent."""
    if comparison is None:
        return Cell()
    if comparison.difference is None or comparison.low is None or comparison.high is None:
        return Cell(comparison.verdict, note=f"{comparison.metric} {comparison.reason}")
    unit = 10.0**-exponent
    text = formatting.difference(comparison.difference * unit, comparison.low * unit, comparison.high * unit)
    text += f" {WORDS.get(comparison.verdict, comparison.verdict)}".rstrip()
    found = Cell(text, comparison.difference, comparison.low, comparison.high)
    if comparison.verdict == BETTER:
        return replace(found, tone="good")
    return replace(found, tone="bad") if comparison.verdict == WORSE else found


def detectable(comparison: Comparison | None, exponent: int = 0) -> str:
    """What a comparison would have seen, in the unit 10^exponent; "" where it says nothing about that."""
    if comparison is None or not comparison.detectable:
        return ""
    return formatting.significant(comparison.detectable * 10.0**-exponent, 2)


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
    return notes


def _detectable_cell(comparison: Comparison | None, exponent: int) -> Cell:
    text = detectable(comparison, exponent)
    return Cell(text, None if comparison is None else comparison.detectable) if text else Cell()


def _floor_cell(run: RunRecord, column: Column) -> Cell:
    height = noise_floor(run, column.key)
    return Cell() if height is None else Cell(formatting.significant(height * 10.0**-column.exponent, 2), height)


def _half(comparison: Comparison) -> float:
    return ((comparison.high or 0.0) - (comparison.low or 0.0)) / 2


def _heading(column: Column) -> Column:
    """The metric's heading without its count, which the main table has; the unit stays."""
    unit = ", ".join(part for part in column.remark.split(", ") if not part.startswith("n="))
    return Column(column.key, column.title, column.better, unit, column.exponent)
