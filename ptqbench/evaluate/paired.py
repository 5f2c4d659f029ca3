"""Differences of two arms measured on the same noise: paired over images and over calibration seeds.

The variance of a difference has two parts, which are estimated apart and added. *Images*: a delete-a-block jackknife of the
difference itself, both arms without the same block, so that what an image does to both cancels. *Calibration*: how much the
difference varies from one calibration seed to the next. Two or three seeds say little about their own spread; it is
therefore pooled over the arms of a group, in units of each arm's image noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.special import nctdtrinc, stdtrit

from ptqbench.evaluate.intervals import LEVEL, jackknife_variance

POWER = 0.8
"""Chance with which the detectable effect would be seen."""

EXACT = 1e-12
"""A spread below this share of the values is rounding."""

LEAST_P = 1e-12
"""Smaller p values are not computed: no normal model holds so far out."""


@dataclass(frozen=True)
class Arm:
    """One method: a value for each calibration seed, and for each of them the replicates with one block left out."""

    values: dict[int, float]
    replicates: dict[int, NDArray[np.float64]]

    @property
    def noise(self) -> float:
        """Variance of one value over images: the mean over seeds of the jackknife variance."""
        return float(np.mean([jackknife_variance(x) for x in self.replicates.values()]))

    @property
    def fixed(self) -> bool:
        """Whether every seed gave the very same value: nothing in this arm depends on the calibration."""
        return len(set(self.values.values())) == 1 < len(self.values)


@dataclass(frozen=True)
class Pool:
    """Variance of a difference over calibration seeds as a multiple of its arms' image variance; degrees of freedom.

    `alone` is the same of single arms: what a difference from an arm that no calibration moves varies by. It holds what seeds
    do to all arms alike, which cancels in differences of two that move.
    """

    ratio: float
    freedom: float
    alone: Pool | None = None


@dataclass(frozen=True)
class Difference:
    """First arm minus second: mean over the common seeds, 95 % interval, two-sided p, and what could have been seen.

    `detectable` is the true difference that this comparison would have found with a chance of 80 %, as one of a family of
    comparisons (at Bonferroni's bound, so that with Holm's correction the chance may be higher).
    `seeds` is the number of common calibration seeds; with `this_calibration_only` the interval says
    nothing about other calibrations.
    """

    value: float
    low: float
    high: float
    p: float
    detectable: float
    seeds: int
    this_calibration_only: bool


@dataclass(frozen=True)
class Part:
    """One part of a variance with its degrees of freedom."""

    variance: float
    freedom: float


def pool_arms(arms: Sequence[Arm]) -> Pool | None:
    """Pool the calibration spread over all pairs of `arms`; None where no two of them share two seeds.

    In a complete table of M arms and k seeds this is the residual variance of the two-way layout, with (M - 1)(k - 1)
    degrees of freedom. An arm that is `fixed` says nothing about the others and is left out.
    """
    moving = [arm for arm in arms if not arm.fixed and arm.noise > 0]
    pool = _pool(list(combinations(moving, 2)))
    if pool is None:
        return None
    extra = [len(arm.values) - 1 for arm in moving]
    own = sum(
        n * float(np.var(list(arm.values.values()), ddof=1)) / arm.noise for n, arm in zip(extra, moving, strict=True) if n
    )
    # Arms share their seeds, so that as many of them as there are may say no more than one.
    alone = Pool(own / sum(extra), sum(extra) / len(extra))
    return Pool(pool.ratio, pool.freedom * 2.0 / len(moving), alone)


def pool_pairs(pairs: Sequence[tuple[Arm, Arm]]) -> Pool | None:
    """Pool over pairs that have no arm in common; pairs without any spread over seeds are left out."""
    return _pool([(a, b) for a, b in pairs if _seed_variance(a, b) > 0])


def paired_difference(ours: Arm, theirs: Arm, pool: Pool | None = None, family: int = 1) -> Difference:
    """The difference of two arms over the seeds that both have, as one of a `family` of comparisons.

    Without a pool, the calibration spread comes from the pair's own seeds; one seed has none. The parts are added
    although the spread over seeds holds a little image noise already: intervals are rather too wide than too narrow.

    Raises `ValueError` for arms without a common seed, or with other numbers of blocks.
    """
    seeds = _common(ours, theirs)
    if not seeds:
        raise ValueError("the arms have no calibration seed in common")
    value = float(np.mean([ours.values[s] - theirs.values[s] for s in seeds]))
    blocks = np.mean([ours.replicates[s] - theirs.replicates[s] for s in seeds], axis=0)
    image = Part(jackknife_variance(blocks), blocks.size - 1.0)
    calibration = calibration_part(ours, theirs, pool)
    parts = [image] if calibration is None else [image, calibration]
    rounding = (EXACT * max(abs(arm.values[s]) for arm in (ours, theirs) for s in seeds)) ** 2
    if image.variance <= rounding and _seed_variance(ours, theirs) <= rounding:
        parts = []  # equal, or apart by a constant: nothing here is random
    unknown = calibration is None and not (ours.fixed and theirs.fixed)
    return judge(value, parts, len(seeds), only=unknown, family=family)


def calibration_part(ours: Arm, theirs: Arm, pool: Pool | None) -> Part | None:
    """Variance of the mean difference over seeds from the calibration; None where it is zero or nothing is known."""
    seeds = len(_common(ours, theirs))
    if ours.fixed and theirs.fixed:
        return None
    moving = [arm for arm in (ours, theirs) if not arm.fixed]
    known = pool.alone if pool is not None and len(moving) == 1 else pool
    if known is not None:
        return Part(known.ratio * sum(arm.noise for arm in moving) / seeds, known.freedom)
    return Part(_seed_variance(ours, theirs) / seeds, seeds - 1.0) if seeds > 1 else None


def judge(value: float, parts: Sequence[Part], seeds: int, *, only: bool, family: int = 1) -> Difference:
    """The t test of a value whose variance is a sum of parts. Interval and p are its own, not corrected for the family.

    The critical value is the mean of the parts' own, weighted by their variance (Cochran and Cox). Welch and
    Satterthwaite's single number of degrees of freedom is too optimistic here: with one or two degrees for the
    calibration it calls up to 11 % of equal methods different instead of 5 %; this one stays at 5 % or below.
    """
    parts = [part for part in parts if part.variance > 0]
    if not parts:
        return Difference(value, value, value, float(value == 0), 0.0, seeds, only)
    error = float(np.sqrt(sum(part.variance for part in parts)))
    edge = _critical(parts, (1 - LEVEL) / 2) * error
    detectable = _noncentrality(parts, (1 - LEVEL) / 2 / family) * error
    return Difference(value, value - edge, value + edge, _p_value(parts, abs(value) / error), detectable, seeds, only)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p values: comparing each with 5 % keeps the chance of any false finding among them at 5 %."""
    order = np.argsort(p, kind="stable")
    raised = np.asarray(p, dtype=np.float64)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(raised))
    return [float(x) for x in adjusted]


def _critical(parts: Sequence[Part], tail: float) -> float:
    """The weighted critical value with the probability `tail` above it."""
    return -sum(float(stdtrit(x.freedom, tail)) * x.variance for x in parts) / sum(x.variance for x in parts)


def _noncentrality(parts: Sequence[Part], tail: float) -> float:
    """How many standard errors from zero a value exceeds the critical one of `tail` with the chance `POWER`, weighted alike."""
    found = [x.variance * float(nctdtrinc(x.freedom, 1 - POWER, -stdtrit(x.freedom, tail))) for x in parts]
    return sum(found) / sum(x.variance for x in parts)


def _p_value(parts: Sequence[Part], ratio: float) -> float:
    """Twice the tail at which the critical value is `ratio`, but not below `LEAST_P`."""
    if ratio >= _critical(parts, LEAST_P / 2):
        return LEAST_P
    if ratio <= 0:
        return 1.0
    # The tail falls with the ratio, so halving the logarithm's range finds it; scipy.optimize takes longer to import than this.
    low, high = np.log(LEAST_P), 0.0
    while high - low > EXACT:
        middle = (low + high) / 2
        low, high = (middle, high) if _critical(parts, np.exp(middle) / 2) > ratio else (low, middle)
    return float(np.exp(high))


def _pool(pairs: Sequence[tuple[Arm, Arm]]) -> Pool | None:
    total = freedom = 0.0
    for a, b in pairs:
        extra = len(_common(a, b)) - 1
        noise = a.noise + b.noise
        if extra > 0 and noise > 0:
            total += extra * _seed_variance(a, b) / noise
            freedom += extra
    return Pool(total / freedom, freedom) if freedom else None


def _seed_variance(a: Arm, b: Arm) -> float:
    """Variance over common seeds of the difference; 0 for one seed."""
    seeds = _common(a, b)
    return float(np.var([a.values[s] - b.values[s] for s in seeds], ddof=1)) if len(seeds) > 1 else 0.0


def _common(a: Arm, b: Arm) -> list[int]:
    return sorted(a.values.keys() & b.values.keys())
