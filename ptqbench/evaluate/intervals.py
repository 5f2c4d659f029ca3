"""95 % intervals for one number: from independent values, or by leaving out blocks of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from ptqbench.errors import CellFailedError

BLOCKS = 20
"""Blocks of a delete-a-block jackknife."""

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A number and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def mean_interval(values: ArrayLike) -> Interval:
    """Mean of independent values (n,) with Student's t interval.

    Raises `CellFailedError` for fewer than two values, which say nothing about their spread, or values that are not
    finite.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size < 2:
        raise CellFailedError(
            f"{x.size} value(s) give no interval: at least 2 are needed",
            "measure on more images or trajectories (sampling.images, evaluation.probes)",
        )
    if not np.isfinite(x).all():
        raise CellFailedError(
            f"{int((~np.isfinite(x)).sum())} of {x.size} values are not finite",
            "the quantized model diverged: look at its ranges and at the rate of its reconstruction",
        )
    return _around(float(x.mean()), float(x.std(ddof=1) / np.sqrt(x.size)), x.size - 1)


def partition(n: int, blocks: int = BLOCKS) -> NDArray[np.int64]:
    """Block labels (n,) of image ids 0..n-1: blocks of equal size (give or take one), the same for every caller.

    The ids are shuffled by a generator whose stream numpy has frozen: consecutive or evenly spaced ids may share a
    class.
    """
    if n < 2:
        raise CellFailedError(f"{n} image(s) give no interval: at least 2 are needed", "raise sampling.images")
    labels = np.empty(n, dtype=np.int64)
    labels[np.random.RandomState(0).permutation(n)] = np.arange(n) % min(blocks, n)
    return labels


def jackknife_variance(left_out: ArrayLike) -> float:
    """Variance of a statistic from its values (g,) with each of g equal blocks left out.

    It is (g - 1) / g times the sum of squared deviations of these values from their mean. Raises `ValueError` for fewer than
    two blocks.
    """
    x = np.asarray(left_out, dtype=np.float64)
    if x.ndim != 1 or x.size < 2:
        raise ValueError("a jackknife needs at least two blocks")
    return float((x.size - 1) / x.size * np.square(x - x.mean()).sum())


def jackknife_interval(value: float, left_out: Sequence[float]) -> Interval:
    """Interval of a set statistic from its values with each of g equal blocks of images left out.

    It is the value plus or minus Student's t with g - 1 degrees of freedom. It speaks of drawing other images for the
    *same* reference set at the *same* count: the bias that a Frechet distance has at finite n is part of the value, not
    of the interval.

    Why not a plain bootstrap: drawing n images with replacement leaves about 37 % of them out and repeats others, so
    each resample behaves like a smaller set. A Frechet distance is biased upwards for small sets; its resamples all lie
    above the value, and their percentiles may not even contain it. Leaving out one block of twenty barely changes n.
    """
    return _around(value, float(np.sqrt(jackknife_variance(left_out))), len(left_out) - 1)


def _around(value: float, error: float, freedom: int) -> Interval:
    half = float(stdtrit(freedom, 0.5 + LEVEL / 2)) * error
    return Interval(value, value - half, value + half)
