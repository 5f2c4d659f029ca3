"""Intervals cover the truth at the stated rate."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from ptqbench.errors import CellFailedError
from ptqbench.evaluate.distances import frechet_distance, frechet_without_blocks
from ptqbench.evaluate.intervals import jackknife_interval, mean_interval, partition

TRIALS = 2000
# 95 % coverage in so many trials stays within this band except once in some ten thousand runs; the draws are fixed.
LOW, HIGH = stats.binom.ppf([5e-5, 1 - 5e-5], TRIALS, 0.95) / TRIALS


def test_mean_interval_equals_scipy() -> None:
    x = np.random.default_rng(0).gamma(2.0, size=37)
    low, high = stats.t.interval(0.95, len(x) - 1, loc=x.mean(), scale=stats.sem(x))
    found = mean_interval(x)
    assert (found.value, found.low, found.high) == pytest.approx((x.mean(), low, high), rel=1e-12)


@pytest.mark.parametrize("n", [3, 12, 64])
def test_mean_interval_covers(n: int) -> None:
    draws = np.random.default_rng(n).normal(5.0, 2.0, size=(TRIALS, n))
    covered = np.mean([i.low <= 5.0 <= i.high for i in map(mean_interval, draws)])
    assert LOW <= covered <= HIGH


@pytest.mark.parametrize("n", [40, 503])
def test_jackknife_covers_for_a_mean(n: int) -> None:
    draws = np.random.default_rng(n).normal(5.0, 2.0, size=(TRIALS, n))
    labels = partition(n)
    sums = np.stack([draws[:, labels == b].sum(axis=1) for b in range(20)], axis=1)
    left_out = (draws.sum(axis=1, keepdims=True) - sums) / (n - np.bincount(labels))
    intervals = [jackknife_interval(x.mean(), list(rest)) for x, rest in zip(draws, left_out, strict=True)]
    covered = np.mean([i.low <= 5.0 <= i.high for i in intervals])
    assert LOW <= covered <= HIGH


def test_jackknife_covers_for_a_frechet_distance() -> None:
    """The truth is the mean of the statistic at this n, bias included; the distance is known and far from zero."""
    n, d, trials = 120, 3, 150
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(4000, d, generator=generator, dtype=torch.float64)
    sets = torch.randn(trials, n, d, generator=generator, dtype=torch.float64) * 1.2 + 0.5
    values = [frechet_distance(x, reference) for x in sets]
    labels = partition(n)
    intervals = [
        jackknife_interval(value, frechet_without_blocks(x, reference, labels)) for value, x in zip(values, sets, strict=True)
    ]
    covered = np.mean([i.low <= np.mean(values) <= i.high for i in intervals])
    assert 0.90 <= covered <= 0.99


def test_a_bootstrap_of_a_frechet_distance_would_be_biased() -> None:
    """Why there is none: its resamples lie above the value itself."""
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(100, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    resamples = [frechet_distance(x[torch.randint(100, (100,), generator=generator)], y) for _ in range(50)]
    assert min(resamples) > frechet_distance(x, y)


def test_partition_is_balanced_complete_and_fixed() -> None:
    labels = partition(503)
    assert set(np.bincount(labels)) == {25, 26}
    assert np.array_equal(labels, partition(503))
    assert len(set(partition(5))) == 5
    assert partition(6, 3).tolist() == [1, 2, 1, 0, 2, 0]
    # Images are often ordered by class, or classes go round: no block may consist of one of ten classes.
    for classes in (np.arange(500) % 10, np.arange(500) // 50):
        assert all(len(set(classes[partition(500) == block])) >= 6 for block in range(20))


@pytest.mark.parametrize("values", [[], [1.0]])
def test_no_interval_without_two_values(values: list[float]) -> None:
    with pytest.raises(CellFailedError, match="at least 2"):
        mean_interval(values)
    with pytest.raises(CellFailedError, match="at least 2"):
        partition(len(values))


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(CellFailedError, match="1 of 3 values"):
        mean_interval([1.0, math.inf, 2.0])
