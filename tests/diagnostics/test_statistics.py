"""Each number of the diagnostics against a loop or a formula from a textbook."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from ptqbench.diagnostics.statistics import (
    binned,
    by_step,
    effective_share,
    mean_known,
    median_band,
    over_seeds,
    pairwise_mean,
    rank_correlation,
)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_pairwise_mean_is_the_mean_over_pairs(rng):
    cosine = rng.uniform(-1, 1, (3, 4, 5, 5))
    cosine[1, 2, 0, 3] = np.nan
    found = pairwise_mean(cosine)
    assert found.shape == (3, 4)
    for place in np.ndindex(3, 4):
        own = [cosine[(*place, i, j)] for i in range(5) for j in range(5) if i != j]
        own = [x for x in own if not math.isnan(x)]
        assert found[place] == pytest.approx(sum(own) / len(own), rel=1e-12)


def test_pairwise_mean_of_one_known_group_is_unknown():
    cosine = np.full((3, 3), np.nan)
    cosine[1, 1] = 1.0
    assert math.isnan(pairwise_mean(cosine))


def test_effective_share():
    assert effective_share(np.full(7, 0.3)) == pytest.approx(1.0)
    assert effective_share(np.eye(8)[2]) == pytest.approx(1 / 8)
    assert effective_share(np.array([1.0, 2.0, 3.0])) == pytest.approx(36 / 14 / 3)
    assert math.isnan(effective_share(np.zeros(3)))


def test_rank_correlation_is_pearsons_of_the_ranks(rng):
    a = rng.normal(size=40)
    b = np.round(a + rng.normal(size=40), 0)  # with ties
    ranks = [[np.mean([r for r, y in enumerate(sorted(x), 1) if y == value]) for value in x] for x in (a, b)]
    expected = np.corrcoef(ranks)[0, 1]
    assert rank_correlation(a, b) == pytest.approx(expected, abs=1e-12)
    a[3], b[7] = np.nan, np.nan
    known = [i for i in range(40) if i not in (3, 7)]
    assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a[known], b[known])[0])


@pytest.mark.parametrize("pair", [([1.0, 2.0], [1.0, 2.0]), ([1.0, 2.0, 3.0], [5.0, 5.0, 5.0])])
def test_rank_correlation_of_too_little_is_unknown(pair):
    assert math.isnan(rank_correlation(*map(np.asarray, pair)))


@pytest.mark.parametrize("bins", [1, 7, 50])
def test_bins_hold_each_sample_once(rng, bins):
    x, w = rng.uniform(-0.4, 0.9, 300), rng.uniform(0, 2, 300)
    x[5] = np.nan
    found = binned(x, w, bins)
    known = np.isfinite(x)
    low, width = x[known].min(), (x[known].max() - x[known].min()) / bins
    members: list[list[float]] = [[] for _ in range(bins)]
    for position, weight in zip(x[known], w[known], strict=True):
        members[min(int((position - low) / width), bins - 1)].append(weight)
    assert found.count.tolist() == [len(own) for own in members]
    assert found.count.sum() == 299
    for value, own in zip(found.weight, members, strict=True):
        assert value == pytest.approx(np.mean(own)) if own else math.isnan(value)
    assert found.edges[[0, -1]].tolist() == pytest.approx([x[known].min(), x[known].max()])


def test_bins_of_one_value_and_of_nothing():
    found = binned(np.full(4, 0.5), np.array([1.0, 2.0, 3.0, 6.0]), 5)
    assert found.count.sum() == 4 and np.nanmax(found.weight) == 3.0
    assert binned(np.full(3, np.nan), np.ones(3), 5).count.size == 0


def test_by_step(rng):
    step, values = rng.integers(0, 4, 200) * 2, rng.uniform(size=200)
    found = by_step(step, values, 8)
    for s in range(8):
        own = sorted(values[step == s])
        if not own:
            assert math.isnan(found.middle[s]) and math.isnan(found.low[s])
            continue
        assert found.middle[s] == pytest.approx(sum(own) / len(own))
        place = 0.9 * (len(own) - 1)
        upper = own[int(place)] + (place % 1) * (own[min(int(place) + 1, len(own) - 1)] - own[int(place)])
        assert found.high[s] == pytest.approx(upper)


def test_interval_over_seeds_is_students():
    values = [0.2, 0.5, 0.3, math.nan]
    found = over_seeds(values)
    half = stats.t.ppf(0.975, 2) * np.std(values[:3], ddof=1) / math.sqrt(3)
    assert (found.mean, found.seeds) == (pytest.approx(1 / 3), 3)
    assert [found.low, found.high] == pytest.approx([1 / 3 - half, 1 / 3 + half])


def test_one_seed_has_no_interval():
    found = over_seeds([0.4])
    assert (found.mean, found.seeds) == (0.4, 1) and math.isnan(found.low)
    assert math.isnan(over_seeds([math.nan]).mean)


def test_mean_of_what_is_known():
    rows = np.array([[1.0, np.nan, np.nan], [3.0, 4.0, np.nan]])
    assert mean_known(rows)[:2].tolist() == [2.0, 4.0] and math.isnan(mean_known(rows)[2])


def test_median_band(rng):
    curves = rng.normal(size=(9, 4))
    found = median_band(curves)
    ordered = np.sort(curves, axis=0)
    for band, place in ((found.low, 2), (found.middle, 4), (found.high, 6)):
        assert band.tolist() == pytest.approx(ordered[place].tolist())
