"""The difference of a number to its baseline, with an interval for all comparisons of a check together.

Its variance has two parts. *Images*: a jackknife of the difference itself where both sides used the same images, else
the sum of both sides' own variances. *Calibration*: the spread over calibration seeds that the baseline stored. It counts
even if the seeds are equal: a change that draws other random numbers gives another calibration, and is no regression.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from ptqbench.evaluate.intervals import BLOCKS
from ptqbench.evaluate.paired import Pool, jackknife_variance
from ptqbench.gate.bands import PER_HALF_WIDTH
from ptqbench.gate.snapshot import Entry, Measure

TOGETHER = 0.97
"""Level at which all intervals of a check hold. Only losses fail, so that 1.5 % of checks of one commit do by this rule."""


@dataclass(frozen=True)
class Difference:
    """Now minus baseline, the interval, and how it was found: "paired" or "unpaired"."""

    value: float
    low: float
    high: float
    how: str

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Side:
    """One side of a comparison: the number, the calibrations that it averages, and the noise of its images."""

    measure: Measure
    seeds: tuple[int, ...]
    image_seed: int | None


def pool(entries: Iterable[Entry], metric: str) -> Pool | None:
    """The baseline's calibration spread of a metric over all cells that have one, in units of each cell's image variance.

    Two or three seeds say little about their own spread; cells with none (nothing in them depends on the calibration)
    say nothing about the others.
    """
    parts = [
        (len(entry.seeds) - 1, measure.spread**2 / _image_variance(measure))
        for entry in entries
        if (measure := entry.metrics.get(metric)) is not None and measure.spread and measure.half > 0
    ]
    total = sum(extra * ratio for extra, ratio in parts)
    if not total:
        return None
    freedom = sum(extra for extra, _ in parts)
    # Satterthwaite: where one cell makes up most of the pool, the pool knows little more than that cell.
    return Pool(total / freedom, total**2 / sum(extra * ratio**2 for extra, ratio in parts))


def pools(cells: Mapping[str, Entry]) -> dict[str, Pool | None]:
    """`pool` for every metric of a baseline."""
    names = dict.fromkeys(name for entry in cells.values() for name in entry.metrics)
    return {name: pool(cells.values(), name) for name in names}


def judge(then: Side, now: Side, spread: Pool | None, comparisons: int) -> Difference:
    """The difference with an interval at a level that holds for this many comparisons together (Bonferroni)."""
    value = now.measure.value - then.measure.value
    paired = _paired(then, now)
    tail = (1 - TOGETHER) / 2 / max(1, comparisons)
    images = (_paired_parts if paired else _unpaired_parts)(then.measure, now.measure)
    # Each part at its own degrees of freedom, added in quadrature. Welch-Satterthwaite would take the many degrees of
    # the images for all of it just where two seeds happen to agree, and cry wolf.
    half = math.sqrt(sum(_half(*part, tail) ** 2 for part in images) + _calibration(then, now, spread, tail) ** 2)
    return Difference(value, value - half, value + half, "paired" if paired else "unpaired")


def spread_unknown(then: Side, now: Side) -> bool:
    """Whether other calibrations than the baseline's were used and nothing says how much that matters."""
    return then.seeds != now.seeds and then.measure.spread is None


def _paired(then: Side, now: Side) -> bool:
    blocks = len(then.measure.replicates)
    return blocks > 1 and blocks == len(now.measure.replicates) and then.image_seed == now.image_seed


def _paired_parts(then: Measure, now: Measure) -> list[tuple[float, float]]:
    left_out = np.subtract(now.replicates, then.replicates)
    return [(jackknife_variance(left_out), left_out.size - 1.0)]


def _unpaired_parts(then: Measure, now: Measure) -> list[tuple[float, float]]:
    # Intervals do not say their degrees of freedom: those of a jackknife are the fewest that occur.
    return [(_image_variance(then), BLOCKS - 1.0), (_image_variance(now), BLOCKS - 1.0)]


def _image_variance(measure: Measure) -> float:
    return (measure.half * PER_HALF_WIDTH) ** 2


def _calibration(then: Side, now: Side, spread: Pool | None, tail: float) -> float:
    """Half-width by calibration: the shorter of two.

    One rests on the cell's own spread, which is right whatever other cells do but has few degrees of freedom. The other
    takes the pooled spread where it is larger: right where cells vary alike, and too wide for one that hardly varies.
    """
    own = then.measure.spread
    if not own or spread is None:
        return 0.0
    both = 1 / len(then.seeds) + 1 / max(1, len(now.seeds))
    pooled = max(own**2, spread.ratio * _image_variance(then.measure))
    alone = _half(own**2 * both, len(then.seeds) - 1.0, tail)
    return min(alone, _half(pooled * both, spread.freedom, tail))


def _half(variance: float, freedom: float, tail: float) -> float:
    return float(stdtrit(freedom, 1 - tail)) * math.sqrt(variance)
