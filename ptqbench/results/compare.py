"""From the cells of a run to differences with verdicts: every method beside the baseline, metric by metric."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ptqbench.evaluate.intervals import jackknife_variance
from ptqbench.evaluate.paired import Arm, Pool, holm, paired_difference, pool_arms
from ptqbench.plugin.names import FULL_PRECISION
from ptqbench.results.protocols import identity, mismatch
from ptqbench.results.record import CellRecord, Comparison, Number, RunRecord
from ptqbench.results.rows import Row, rows_of

BETTER, WORSE, UNSEEN, REFUSED = "better", "worse", "no difference seen", "not comparable"
"""The verdicts."""

SIGNIFICANT = 0.05

BITS_TOLERANCE = 0.01
"""Average bits that differ by more than this share are another bit setting, whatever its name."""


def attach_comparisons(record: RunRecord) -> RunRecord:
    """The record with its `comparisons` computed from its cells."""
    return replace(record, comparisons=comparisons(record))


def compared(record: RunRecord) -> RunRecord:
    """The record as it is if it has comparisons, else with them: those that a repository keeps are without."""
    return record if record.comparisons else attach_comparisons(record)


def comparisons(record: RunRecord) -> list[Comparison]:
    """Every method beside the baseline at the same bits and variant, in reading order; never full precision.

    Where an axis of the sweep does not concern the baseline, its row without that axis stands in (`base_of`).
    """
    rows = [row for row in rows_of(record) if not row.full_precision]
    bases = [row for row in rows if row.method == record.baseline and row.cells]
    judged = [row for row in rows if row.method != record.baseline]
    meeting = [(base, [row for row in judged if base_of(row, bases) is base]) for base in bases]
    asked = [(base, others, name) for base, others in meeting for name in _names(base.cells)]
    family = Counter(name for base, others, name in asked for row in others if comparable(row, base, name))
    found = [c for base, others, name in asked for c in _against(base, others, name, family[name])]
    order = {row.key: index for index, row in enumerate(rows)}
    found.sort(key=lambda c: order[c.method, c.bits, c.variant])
    return [_inside_floor(c, record) for c in with_verdicts(found)]


def base_of(row: Row, bases: Sequence[Row]) -> Row | None:
    """The one of `bases`, a method's rows, that stands beside a row: at its bits, and at its values of every axis of the sweep
    that concerns the base too. None where there is no such row."""
    own = _labels(row.variant)
    alike = [base for base in bases if base.bits == row.bits and _labels(base.variant) <= own]
    return max(alike, key=lambda base: len(_labels(base.variant)), default=None)


def arm_of(cells: Sequence[CellRecord], metric: str) -> Arm:
    """The values and replicates of a metric by calibration seed."""
    numbers = {cell.seed: cell.metrics[metric] for cell in cells if metric in cell.metrics}
    return Arm(
        {seed: number.value for seed, number in numbers.items()},
        {seed: np.asarray(number.replicates, dtype=np.float64) for seed, number in numbers.items()},
    )


def refusal(ours: Sequence[CellRecord], theirs: Sequence[CellRecord], metric: str) -> str:
    """Why two methods' numbers must not be subtracted; empty when they may."""
    mine, other = (_numbers(cells, metric) for cells in (ours, theirs))
    if reason := mismatch(identity(list(mine.values())), identity(list(other.values()))):
        return reason
    if not mine.keys() & other.keys():
        return "no calibration seed in common: run both with the same sweep.seeds"
    counts = {len(number.replicates) for number in (*mine.values(), *other.values())}
    if min(counts) < 2:
        return "the metric gives no values with blocks of images left out, so the difference has no interval"
    if len(counts) > 1:
        return "measured on unequal numbers of image blocks: use one sampling.images for both"
    if not all(math.isfinite(x) for number in (*mine.values(), *other.values()) for x in (number.value, *number.replicates)):
        return "a value is not finite: look at the cell's own figures with `ptqbench show RUN --cell ID`"
    return _unequal_bits(ours, theirs)


def compare_rows(ours: Row, theirs: Row, metric: str, pool: Pool | None, family: int) -> Comparison:
    """Row `ours` minus row `theirs` over their common calibration seeds, or refused with the reason.

    Both rows must have the metric. `family` is the number of comparisons in this metric, which decides what can be seen.
    The verdict comes later, when all p values are known (`with_verdicts`).
    """
    better = next(iter(_numbers(theirs.cells, metric).values())).better
    blank = Comparison(ours.method, ours.bits, ours.variant, metric, theirs.method, UNSEEN, better=better)
    if reason := refusal(ours.cells, theirs.cells, metric):
        return replace(blank, verdict=REFUSED, reason=reason)
    arms = arm_of(ours.cells, metric), arm_of(theirs.cells, metric)
    # The difference is over the common seeds: values over others would not add up to it.
    seeds = sorted(arms[0].values.keys() & arms[1].values.keys())
    value, against = (float(np.mean([arm.values[s] for s in seeds])) for arm in arms)
    found = paired_difference(*arms, pool, family)
    return replace(
        blank,
        value=value,
        baseline_value=against,
        difference=found.value,
        low=found.low,
        high=found.high,
        p=found.p,
        detectable=found.detectable,
        seeds=found.seeds,
        this_calibration_only=found.this_calibration_only,
    )


def pool_of(base: Row, others: Sequence[Row], metric: str) -> Pool | None:
    """The calibration spread of `base` and of the rows that may be compared with it, which others would only distort."""
    usable = [row for row in others if row is not base and comparable(row, base, metric)]
    # The baseline alone has no spread to pool, and perhaps no replicates either.
    return pool_arms([arm_of(row.cells, metric) for row in (base, *usable)]) if usable else None


def comparable(ours: Row, theirs: Row, metric: str) -> bool:
    """Whether both rows have the metric and their numbers may be subtracted."""
    return has(ours, metric) and has(theirs, metric) and not refusal(ours.cells, theirs.cells, metric)


def has(row: Row, metric: str) -> bool:
    """Whether any finished cell of the row has the metric."""
    return any(metric in cell.metrics for cell in row.cells)


def with_verdicts(found: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with adjusted p values and verdicts. Holm's family is one metric: all methods, bits and variants."""
    adjusted: dict[int, float] = {}
    for metric in dict.fromkeys(c.metric for c in found):
        family = [(i, c.p) for i, c in enumerate(found) if c.metric == metric and c.p is not None]
        adjusted |= zip((i for i, _ in family), holm([p for _, p in family]), strict=True)
    return [
        replace(c, p_adjusted=adjusted[i], verdict=_verdict(c, adjusted[i])) if i in adjusted else c
        for i, c in enumerate(found)
    ]


def _labels(variant: str) -> set[str]:
    """A variant's labels, one for each axis: a value may be a list or a table, whose own commas stand in brackets."""
    found, depth = [""], 0
    for char in variant:
        depth += (char in "[(") - (char in "])")
        if char == "," and not depth:
            found.append("")
        else:
            found[-1] += char
    return set(filter(None, found))


def _against(base: Row, others: Sequence[Row], metric: str, family: int) -> list[Comparison]:
    """The other rows beside the baseline's in one metric; the rows that may be compared share one pool."""
    pool = pool_of(base, others, metric)
    return [compare_rows(row, base, metric, pool, family) for row in others if has(row, metric)]


def _verdict(comparison: Comparison, p: float) -> str:
    if comparison.difference is None or p > SIGNIFICANT:
        return UNSEEN
    return BETTER if (comparison.difference < 0) == (comparison.better == "lower") else WORSE


def _unequal_bits(ours: Sequence[CellRecord], theirs: Sequence[CellRecord]) -> str:
    for what in ("average weight bits", "average activation bits"):
        a, b = ([cell.bits_summary[what] for cell in cells if what in cell.bits_summary] for cells in (ours, theirs))
        if a and b and not all(math.isclose(x, y, rel_tol=BITS_TOLERANCE) for x in a for y in b):
            return f"unequal bits: {what} {a[0]:.3g} against {b[0]:.3g}; give both the same plan passes"
    return ""


def noise_floor(record: RunRecord, metric: str) -> float | None:
    """How far the full-precision model's own values on two blocks of noise lie apart: one standard error of that difference.

    It is the jackknife standard error of full precision's own row, times the root of two. None where that row has no such
    metric, as for all that are measured against full precision, or no replicates.
    """
    full_precision = (cell.metrics for cell in record.cells if cell.method == FULL_PRECISION)
    found = next((metrics[metric] for metrics in full_precision if metric in metrics), None)
    if found is None or len(found.replicates) < 2 or not all(map(math.isfinite, found.replicates)):
        return None
    return math.sqrt(2 * jackknife_variance(found.replicates))


def _inside_floor(comparison: Comparison, record: RunRecord) -> Comparison:
    """Mark a difference that is no larger than the noise floor."""
    floor = noise_floor(record, comparison.metric)
    if floor is None or comparison.difference is None:
        return comparison
    return replace(comparison, inside_floor=abs(comparison.difference) <= floor)


def _names(cells: Sequence[CellRecord]) -> list[str]:
    return list(dict.fromkeys(name for cell in cells for name in cell.metrics))


def _numbers(cells: Sequence[CellRecord], metric: str) -> dict[int, Number]:
    return {cell.seed: cell.metrics[metric] for cell in cells if metric in cell.metrics}
