"""Where a row's spread over calibration seeds comes from: a metric after fits in which one thing at a time was changed."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from scipy.stats import chi2, f

from ptqbench.evaluate.intervals import LEVEL
from ptqbench.results.formatting import significant
from ptqbench.results.tables import Cell, Column, Table

LAST_BITS = "last bits"
MINI_BATCHES = "mini-batches"
SAMPLES = "calibration set"
SEEDS = "calibration seed"

CHANGES = {
    LAST_BITS: "the same fits, recorded in other batches: nothing but rounding of single precision differs",
    MINI_BATCHES: "other draws of mini-batches from the same calibration set",
    SAMPLES: "other trajectories and choices of samples, drawn in the same order",
    SEEDS: "both, as cells of a recipe do",
}
"""What is changed in each arm; each brings the last bits along."""


@dataclass(frozen=True)
class Arm:
    """The metric of a row's fits with one thing changed, the unchanged fit first."""

    change: str
    values: list[float]

    @property
    def spread(self) -> float:
        """The standard deviation as a share of the mean."""
        return statistics.stdev(self.values) / statistics.fmean(self.values)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of `spread`, for values with a normal distribution."""
        freedom, tail = len(self.values) - 1, (1 - LEVEL) / 2
        low, high = (self.spread * math.sqrt(freedom / chi2.ppf(level, freedom)) for level in (1 - tail, tail))
        return low, high


@dataclass(frozen=True)
class Sources:
    """The arms of one row, in the order of `CHANGES`."""

    method: str
    bits: str
    metric: str
    arms: list[Arm]

    @property
    def sentence(self) -> str:
        """Whether calibration seeds spread the metric more than last bits do: an F test of both variances."""
        arms = {arm.change: arm for arm in self.arms}
        seeds, bits = arms[SEEDS], arms[LAST_BITS]
        told = f"Seeds spread {self.metric} by {100 * seeds.spread:.1f} %, last bits alone by {100 * bits.spread:.1f} %"
        if bits.spread == 0 or seeds.spread == 0:
            return f"{told}."
        ratio, freedom = (seeds.spread / bits.spread) ** 2, (len(seeds.values) - 1, len(bits.values) - 1)
        if f.sf(ratio, *freedom) < 1 - LEVEL:
            return f"{told}: samples or draws of mini-batches have a part of their own."
        return f"{told}. That is no more than chance tells apart: the fits' own instability may be all of it."


def spread_table(found: Sources) -> Table:
    """One row an arm: its mean and spread, and its values."""
    columns = [Column("change", "what differs", text=True), Column("fits", "fits")]
    columns += [Column("mean", found.metric, better="lower"), Column("spread", "spread", remark="% of the mean")]
    columns += [Column("interval", "95 % interval", text=True), Column("values", "values", text=True)]
    rows = [_row(arm) for arm in found.arms]
    notes = [found.sentence, *(f"{change}: {words}." for change, words in CHANGES.items())]
    notes.append("Spread: standard deviation. Every change brings other last bits along: the arms are no parts of a sum.")
    return Table(f"Sources of the spread of {found.method} {found.bits}", columns, rows, notes)


def _row(arm: Arm) -> list[Cell]:
    mean, (low, high) = statistics.fmean(arm.values), arm.interval
    return [
        Cell(arm.change),
        Cell(str(len(arm.values)), value=len(arm.values)),
        Cell(significant(mean, 3), value=mean),
        Cell(f"{100 * arm.spread:.1f}", value=arm.spread),
        Cell(f"{100 * low:.1f} to {100 * high:.1f}"),
        Cell(" ".join(significant(value, 3) for value in arm.values)),
    ]
