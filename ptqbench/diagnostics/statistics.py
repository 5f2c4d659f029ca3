"""The numbers that diagnostics consist of. Everywhere NaN means: there is nothing to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr

from ptqbench.evaluate.intervals import mean_interval

Array = NDArray[np.float64]

BAND = (10.0, 90.0)
"""Percentiles that bound the band of weights."""


@dataclass(frozen=True)
class Spread:
    """The mean over calibration seeds with Student's 95 % interval, which needs two of them: else `low` and `high` are NaN."""

    mean: float
    low: float
    high: float
    seeds: int


@dataclass(frozen=True)
class Band:
    """The middle of many values at each place, and the ends of a band that holds part of them."""

    middle: Array
    low: Array
    high: Array


@dataclass(frozen=True)
class Bins:
    """`edges` (B + 1,) of equal bins, and in each the mean weight (B,) (NaN in an empty one) and the number of samples."""

    edges: Array
    weight: Array
    count: Array


def over_seeds(values: Sequence[float]) -> Spread:
    """One value of each seed; those that are NaN do not count."""
    x = np.asarray([value for value in values if np.isfinite(value)], dtype=np.float64)
    if x.size < 2:
        return Spread(float(x[0]) if x.size else np.nan, np.nan, np.nan, x.size)
    found = mean_interval(x)
    return Spread(found.value, found.low, found.high, x.size)


def spreads(rows: Sequence[Array]) -> list[Spread]:
    """Over seeds, for each column of the rows (one row a seed)."""
    return [over_seeds([float(value) for value in column]) for column in zip(*rows, strict=True)]


def mean_known(values: ArrayLike, axis: int = 0) -> Array:
    """The mean along an axis of what is not NaN; NaN where nothing is known."""
    x = np.asarray(values, dtype=np.float64)
    known = np.isfinite(x)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(known, x, 0.0).sum(axis) / known.sum(axis))


def pairwise_mean(cosine: Array) -> Array:
    """Mean of the entries off the diagonal: (...) from (..., G, G). NaN entries do not count."""
    groups = cosine.shape[-1]
    return mean_known(cosine[..., ~np.eye(groups, dtype=bool)], axis=-1)


def effective_share(weights: Array) -> float:
    """Kish's effective sample size of weights (N,) as a share of N: (sum w)^2 / (N sum w^2), 1 if all are equal."""
    squares = float(np.square(weights).sum())
    return float(weights.sum()) ** 2 / (weights.size * squares) if squares > 0 else np.nan


def rank_correlation(a: Array, b: Array) -> float:
    """Spearman's rank correlation of what is finite in both; NaN if fewer than three are, or if one is constant."""
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    if a.size < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    return float(spearmanr(a, b).statistic)


def binned(position: Array, weight: Array, bins: int) -> Bins:
    """The average weight in equal bins of `position` between its least and its greatest value; NaN positions are left out."""
    known = np.isfinite(position) & np.isfinite(weight)
    x, w = position[known], weight[known]
    if x.size == 0:
        return Bins(np.zeros(0), np.zeros(0), np.zeros(0))
    low, high = float(x.min()), float(x.max())
    edges = np.linspace(low, high, bins + 1) if high > low else np.linspace(low - 0.5, high + 0.5, bins + 1)
    place = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return Bins(edges, np.bincount(place, weights=w, minlength=bins) / count, count)


def by_step(step: NDArray[np.int64], values: Array, steps: int) -> Band:
    """Mean and 10-90 % band of values (N,) at each of `steps` sampling steps; NaN at a step without samples."""
    found = np.full((3, steps), np.nan)
    for s in np.unique(step):
        own = values[step == s]
        found[:, s] = own.mean(), *np.percentile(own, BAND)
    return Band(*found)


def median_band(curves: Array) -> Band:
    """Median and quartiles over rows: (K,) from (R, K)."""
    low, middle, high = np.percentile(curves, [25.0, 50.0, 75.0], axis=0)
    return Band(middle, low, high)
