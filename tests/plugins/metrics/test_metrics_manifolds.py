"""Precision and recall against brute force."""

from __future__ import annotations

import pytest
import torch
from metrickit import evidence_of, numbers
from scipy.stats import binomtest

from ptqbench.errors import CellFailedError
from ptqbench.evaluate import tiles
from ptqbench.evaluate.chunks import Chunks
from ptqbench.evaluate.features import FeatureSet
from ptqbench.evaluate.manifolds import ball_radii, coverage


def draw(n: int, d: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def brute_force(points: torch.Tensor, centres: torch.Tensor, k: int) -> float:
    """The share of points inside any ball that reaches to its centre's k-th nearest other centre."""

    def distance(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a - b).square().sum().sqrt())

    radii = [sorted(distance(c, o) for j, o in enumerate(centres) if j != i)[k - 1] for i, c in enumerate(centres)]
    hits = [any(distance(p, c) <= r for c, r in zip(centres, radii, strict=True)) for p in points]
    return sum(hits) / len(hits)


@pytest.mark.parametrize("k", [1, 3])
def test_equals_brute_force(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = draw(40, 4, 0), draw(31, 4, 1, 0.8)
    found = numbers("precision-recall", evidence_of(pool=x, data=FeatureSet.of(y)), neighbours=k)
    assert {name: value.value for name, value in found.items()} == {
        "precision-digits@data": brute_force(x, y, k),
        "recall-digits@data": brute_force(y, x, k),
    }
    assert [value.n for value in found.values()] == [40, 31]
    monkeypatch.setattr(tiles, "TILE", 7)  # several tiles, the last ones incomplete
    monkeypatch.setattr(tiles, "BAND", 8 * 4 * 14)
    again = numbers("precision-recall", evidence_of(size=9, pool=x, data=FeatureSet(Chunks.of(y, 4), 4)), neighbours=k)
    assert again == found


def test_radii_are_those_of_all_distances_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    x = draw(40, 4, 0)
    monkeypatch.setattr(tiles, "TILE", 3)
    expected = torch.cdist(x, x).square().fill_diagonal_(torch.inf).sort(dim=1).values
    for k in (1, 3, 11):  # more neighbours than a tile has columns, too
        assert torch.allclose(ball_radii(FeatureSet(Chunks.of(x, 9), 4), k), expected[:, k - 1], rtol=1e-9)


def test_far_from_the_origin_no_digit_is_lost() -> None:
    x, y = draw(40, 4, 0), draw(31, 4, 1, 0.8)
    near = coverage(x, y, ball_radii(x, 3), ball_radii(y, 3))
    far = coverage(x + 1e6, y + 1e6, ball_radii(x + 1e6, 3), ball_radii(y + 1e6, 3))
    assert all(torch.equal(a, b) for a, b in zip(near, far, strict=True))


def test_equal_sets_cover_each_other_and_far_ones_do_not() -> None:
    x = draw(30, 4, 2)
    same = numbers("precision-recall", evidence_of(pool=x, fp=x), reference="fp")
    assert {name: (v.value, v.high) for name, v in same.items()} == {
        "precision-digits@fp": (1.0, 1.0),
        "recall-digits@fp": (1.0, 1.0),
    }
    far = numbers("precision-recall", evidence_of(pool=x, data=FeatureSet.of(draw(30, 4, 3, 50.0))))
    assert {v.value for v in far.values()} == {0.0}


def test_the_interval_is_wilson_s() -> None:
    x, y = draw(40, 4, 0), draw(31, 4, 1, 0.8)
    precision = numbers("precision-recall", evidence_of(pool=x, data=FeatureSet.of(y)))["precision-digits@data"]
    ends = binomtest(round(40 * precision.value), 40).proportion_ci(0.95, method="wilson")
    assert (precision.low, precision.high) == pytest.approx((ends.low, ends.high))
    assert len(precision.replicates) == 20


def test_refusals() -> None:
    with pytest.raises(CellFailedError, match="3 images have no 3 nearest neighbours"):
        numbers("precision-recall", evidence_of(pool=draw(3, 2, 0), data=FeatureSet.of(draw(9, 2, 1))))
    broken = draw(9, 2, 0)
    broken[4, 0] = torch.nan
    with pytest.raises(CellFailedError, match="not finite"):
        numbers("precision-recall", evidence_of(pool=broken, data=FeatureSet.of(draw(9, 2, 1))))
