"""The kernel distance against a direct double loop, and its properties."""

from __future__ import annotations

import weakref
from functools import partial

import numpy as np
import pytest
import torch

from ptqbench.errors import CellFailedError
from ptqbench.evaluate import tiles
from ptqbench.evaluate.chunks import Chunks
from ptqbench.evaluate.features import FeatureSet
from ptqbench.evaluate.intervals import partition
from ptqbench.evaluate.kernels import kernel_distance, kernel_distance_blocks, kernel_distance_subsets


def draw(n: int, d: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def double_loop(x: torch.Tensor, y: torch.Tensor, paired: bool) -> float:
    """The definition, pair by pair."""

    def k(a: torch.Tensor, b: torch.Tensor) -> float:
        return (float((a * b).sum()) / len(a) + 1.0) ** 3

    def mean(a: torch.Tensor, b: torch.Tensor, skip: bool) -> float:
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (skip and i == j)]
        return sum(k(a[i], b[j]) for i, j in pairs) / len(pairs)

    return mean(x, x, True) + mean(y, y, True) - 2.0 * mean(x, y, paired)


@pytest.mark.parametrize("paired", [False, True])
def test_equals_a_double_loop(paired: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "TILE", 7)  # several tiles, the last ones incomplete
    monkeypatch.setattr(tiles, "BAND", 8 * 5 * 14)  # two tiles of rows at a time
    x, y = draw(23, 5, 0), draw(23 if paired else 31, 5, 1, 0.3)
    assert kernel_distance(x, y, paired=paired) == pytest.approx(double_loop(x, y, paired), rel=1e-12)


@pytest.mark.parametrize("paired", [False, True])
def test_left_out_blocks_equal_starting_over(paired: bool) -> None:
    x, y = draw(25, 4, 2), draw(25, 4, 3, 0.5)
    blocks = partition(25, 4)
    value, left_out = kernel_distance_blocks(x, y, blocks, paired=paired)
    keep = [torch.from_numpy(blocks != b) for b in range(4)]
    assert value == pytest.approx(kernel_distance(x, y, paired=paired), rel=1e-12)
    assert left_out == pytest.approx([kernel_distance(x[k], y[k] if paired else y, paired=paired) for k in keep])


@pytest.mark.parametrize("paired", [False, True])
def test_subsets_are_distances_of_blocks_alone(paired: bool) -> None:
    x, y = draw(25, 4, 2), draw(25, 4, 3, 0.5)
    blocks = partition(25, 4)
    chosen = [torch.from_numpy(blocks == b) for b in range(4)]
    expected = [kernel_distance(x[c], y[c] if paired else y, paired=paired) for c in chosen]
    assert list(kernel_distance_subsets(x, y, blocks, paired=paired)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("paired", [False, True])
def test_features_are_read_in_parts_and_never_gathered(paired: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve parts of five rows; no more than a band and a tile of rows are held at any time."""
    monkeypatch.setattr(tiles, "TILE", 10)
    monkeypatch.setattr(tiles, "BAND", 8 * 4 * 20)
    x, y = draw(60, 4, 7), draw(60, 4, 8, 0.2)
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    most = 0

    def part_of(rows: torch.Tensor, index: int) -> torch.Tensor:
        nonlocal most
        found = rows[5 * index : 5 * index + 5].clone()
        alive.add(found)
        most = max(most, len(alive))
        return found

    a, b = (FeatureSet(Chunks([5] * 12, partial(part_of, z)), 4) for z in (x, y))
    found = kernel_distance_blocks(a, b, partition(60), paired=paired)
    value, left_out = kernel_distance_blocks(x, y, partition(60), paired=paired)
    assert found[0] == pytest.approx(value, rel=1e-12)
    assert found[1] == pytest.approx(left_out, rel=1e-12)
    assert most <= (20 + 10) // 5 + 2


def test_unbiased_around_zero_for_equal_distributions() -> None:
    values = [kernel_distance(draw(40, 6, 2 * s), draw(40, 6, 2 * s + 1)) for s in range(100)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))
    assert min(values) < 0 < max(values)


def test_paired_sets_that_are_equal_score_zero() -> None:
    """With the pairs (i, i), equal sets would score below zero: an image resembles itself more than another."""
    x = draw(30, 6, 4)
    assert kernel_distance(x, x, paired=True) == pytest.approx(0.0, abs=1e-12)
    assert kernel_distance(x, x, paired=False) < -0.01


def test_order_of_rows_does_not_matter() -> None:
    x, y = draw(30, 6, 5), draw(40, 6, 6)
    assert kernel_distance(x.flip(0), y) == pytest.approx(kernel_distance(x, y), rel=1e-12)


def test_refusals() -> None:
    with pytest.raises(CellFailedError, match="needs at least 2"):
        kernel_distance(draw(1, 3, 0), draw(5, 3, 1))
    with pytest.raises(CellFailedError, match="needs at least 3"):
        kernel_distance_blocks(draw(2, 3, 0), draw(5, 3, 1), partition(2))
    with pytest.raises(ValueError, match="cannot be paired"):
        kernel_distance(draw(4, 3, 0), draw(5, 3, 1), paired=True)
