"""The difference of a number to its baseline, with an interval for all comparisons of a check together.

Its variance has two parts. *Images*: a jackknife of the difference itself where both sides used the same images, else
the sum of both sides' own variances. *Calibration*: other random numbers give another calibration, and are no regression
even under equal seeds. Two rules say how much that moves a number, and the shorter half-width counts. One takes the spread
over calibration seeds of both sides. The other, under equal seeds, takes the spread of the seeds' own differences: a change
that draws no other random numbers moves all seeds alike, and is seen where the spread would hide it. Each rule holds at
half of the error that is allowed, so that both together keep to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import fdtrc, stdtrit

from ptqbench.evaluate.intervals import BLOCKS, jackknife_variance
from ptqbench.gate.bands import PER_HALF_WIDTH
from ptqbench.gate.snapshot import Measure

TOGETHER = 0.97
"""Level at which all intervals of a check hold. Only losses fail, so that 1.5 % of checks of one commit do by this rule."""

SPREAD_LEVEL = 1e-4
"""Chance below which two spreads are not taken for the same (F test); adds so much to the chance of a false alarm."""

Part = tuple[float, float]
"""A variance and its degrees of freedom."""


@dataclass(frozen=True)
class Difference:
    """Now minus baseline, the interval, and how it was found: "unpaired", or paired by images, by calibrations, or by both."""

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


def judge(then: Side, now: Side, comparisons: int) -> Difference:
    """The difference with an interval at a level that holds for this many comparisons together (Bonferroni)."""
    value = now.measure.value - then.measure.value
    paired = _paired(then, now)
    images = (_paired_parts if paired else _unpaired_parts)(then.measure, now.measure)
    by_seed = _by_seed(then, now)
    rules = [_by_spread(then, now)] + ([by_seed] if by_seed is not None else [])
    tail = (1 - TOGETHER) / 2 / max(1, comparisons) / len(rules)
    half = min(_half([*images, calibration], tail) for calibration in rules)
    return Difference(value, value - half, value + half, _how(paired, by_seed is not None))


def spread_unknown(then: Side, now: Side) -> bool:
    """Whether other calibrations than the baseline's were used and nothing says how much that matters."""
    return then.seeds != now.seeds and then.measure.spread is None


def _how(images: bool, seeds: bool) -> str:
    if images and seeds:
        return "images and calibrations paired"
    return "images paired" if images else "calibrations paired" if seeds else "unpaired"


def _paired(then: Side, now: Side) -> bool:
    blocks = len(then.measure.replicates)
    return blocks > 1 and blocks == len(now.measure.replicates) and then.image_seed == now.image_seed


def _paired_parts(then: Measure, now: Measure) -> list[Part]:
    left_out = np.subtract(now.replicates, then.replicates)
    return [(jackknife_variance(left_out), left_out.size - 1.0)]


def _unpaired_parts(then: Measure, now: Measure) -> list[Part]:
    # Intervals do not say their degrees of freedom: those of a jackknife are the fewest that occur.
    return [((measure.half * PER_HALF_WIDTH) ** 2, BLOCKS - 1.0) for measure in (then, now)]


def _by_seed(then: Side, now: Side) -> Part | None:
    """Variance of the mean difference from the seeds' own differences; None under other seeds, or fewer than two."""
    seeds = len(then.seeds)
    if then.seeds != now.seeds or seeds < 2 or not seeds == len(then.measure.by_seed) == len(now.measure.by_seed):
        return None
    differences = np.subtract(now.measure.by_seed, then.measure.by_seed)
    return float(differences.var(ddof=1)) / seeds, seeds - 1.0


def _by_spread(then: Side, now: Side) -> Part:
    """Variance of the mean difference from the spread over calibration seeds of both sides together.

    One side alone is not enough: five seeds may agree by luck, and the next five would then seem to be another method. But
    where the run's spread is beyond any luck, something has come apart: the baseline's alone counts, so that one seed that
    diverged cannot hide itself.
    """
    before, after = then.measure.spread or 0.0, now.measure.spread or 0.0
    freedom, more = len(then.seeds) - 1.0, len(now.seeds) - 1.0
    if not before:
        return 0.0, 1.0
    variance = before**2
    if after and fdtrc(more, freedom, (after / before) ** 2) >= SPREAD_LEVEL:
        variance = (freedom * variance + more * after**2) / (freedom + more)
        freedom += more
    return variance * (1 / len(then.seeds) + 1 / max(1, len(now.seeds))), freedom


def _half(parts: list[Part], tail: float) -> float:
    """Half-width from parts that add up, each at its own degrees of freedom, in quadrature.

    Welch and Satterthwaite's rule would take the many degrees of the images for all of it just where two seeds happen to
    agree, and cry wolf.
    """
    return math.sqrt(sum(float(stdtrit(freedom, 1 - tail)) ** 2 * variance for variance, freedom in parts))
