"""Sets of images and of features that are read in parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ptqbench.errors import CellFailedError
from ptqbench.evaluate import features
from ptqbench.evaluate.chunks import Chunks, recut, regroup
from ptqbench.evaluate.distances import frechet_distance, frechet_without_blocks
from ptqbench.evaluate.features import FeatureSet
from ptqbench.evaluate.intervals import partition
from ptqbench.evaluate.kernels import kernel_distance_blocks
from ptqbench.evaluate.moments import Gaussian, Moments


def draw(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_parts_are_read_when_their_turn_comes() -> None:
    read = []
    chunks = Chunks([3, 3, 1], lambda i: read.append(i) or torch.full((min(3, 7 - 3 * i), 2), float(i)))
    assert len(chunks) == 7
    assert read == []
    assert chunks.first(4)[:, 0].tolist() == [0.0, 0.0, 0.0, 1.0]
    assert read == [0, 1]
    assert [len(part) for part in chunks] == [3, 3, 1]
    with pytest.raises(ValueError, match="were announced"):
        Chunks([2], lambda i: torch.zeros(3, 1)).part(0)


def test_regrouping_keeps_the_rows() -> None:
    parts = list(regroup(draw(23, 2, 0).split(3), 7))
    assert [len(part) for part in parts] == [9, 9, 5]
    assert torch.equal(torch.cat(parts), draw(23, 2, 0))


@pytest.mark.parametrize("size", [1, 3, 7, 23, 100])
def test_recutting_gives_parts_of_exactly_one_size(size: int) -> None:
    parts = list(recut(draw(23, 2, 0).split(5), size))
    assert [len(part) for part in parts] == [min(size, 23 - start) for start in range(0, 23, size)]
    assert torch.equal(torch.cat(parts), draw(23, 2, 0))


def test_slices_begin_anywhere_and_do_not_read_what_lies_before() -> None:
    x, read = draw(23, 2, 0), []
    parts = Chunks([5, 5, 5, 5, 3], lambda i: read.append(i) or x[5 * i : 5 * i + 5])
    found = list(FeatureSet(parts, 2).slices(4, start=12))
    assert [len(part) for part in found] == [4, 4, 3]
    assert torch.equal(torch.cat(found), x[12:])
    assert read == [2, 3, 4]


@pytest.mark.parametrize("size", [1, 7, 100])
def test_sharding_changes_no_number(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Distances of sets in parts, with few rows gathered at a time, against those of tensors."""
    x, y, labels = draw(60, 4, 1), draw(60, 4, 2) * 1.3, partition(60)
    monkeypatch.setattr(features, "ROW_BUDGET", 3 * 4 * 8 * 2)
    a, b = (FeatureSet(Chunks.of(z, size), 4) for z in (x, y))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(x, y), rel=1e-9)
    for paired in (False, True):
        expected = frechet_without_blocks(x, y, labels, paired=paired)
        assert frechet_without_blocks(a, b, labels, paired=paired) == pytest.approx(expected, rel=1e-9)
        value, left_out = kernel_distance_blocks(x, y, labels, paired=paired)
        assert kernel_distance_blocks(a, b, labels, paired=paired) == (value, left_out)


def test_left_out_blocks_equal_starting_over() -> None:
    x, y, labels = draw(60, 4, 1), draw(60, 4, 2) * 1.3, partition(60, 3)
    for paired in (False, True):
        found = frechet_without_blocks(FeatureSet(Chunks.of(x, 7), 4), FeatureSet.of(y), labels, paired=paired)
        kept = [torch.from_numpy(labels != block) for block in range(3)]
        assert found == pytest.approx([frechet_distance(x[k], y[k] if paired else y) for k in kept], rel=1e-9)


def test_blocks_come_in_order_and_are_read_in_few_passes() -> None:
    x, labels, passes = draw(40, 2, 3), partition(40, 5), []
    parts = Chunks([20, 20], lambda i: passes.append(i) or x[20 * i : 20 * i + 20])
    found = list(FeatureSet(parts, 2).blocks(labels))
    assert all(torch.equal(rows, x[torch.from_numpy(labels == block)]) for block, rows in enumerate(found))
    assert passes == [0, 1]


def test_moments_of_parts_are_those_of_the_whole() -> None:
    x = draw(5000, 3, 4).exp() + 100.0
    found = Moments.over(x.split(17))
    assert torch.allclose(found.mean, x.mean(dim=0), rtol=1e-12)
    assert torch.allclose(found.covariance(), x.T.cov(), rtol=1e-9)
    with pytest.raises(CellFailedError, match="no images"):
        Moments.over([])


def test_ready_made_statistics_serve_frechet_distances_alone() -> None:
    x, y = draw(60, 4, 5), draw(50, 4, 6)
    made = FeatureSet(None, 4, Gaussian(y.mean(dim=0), y.T.cov()))
    assert len(made) == 0
    assert frechet_distance(x, made) == pytest.approx(frechet_distance(x, y), rel=1e-9)
    assert frechet_without_blocks(x, made, partition(60)) == pytest.approx(frechet_without_blocks(x, y, partition(60)))
    for ask in (lambda: made.rows(), lambda: FeatureSet(None, 4).gaussian()):
        with pytest.raises(CellFailedError, match="arr_0"):
            ask()


def test_statistics_beside_images_are_the_ones_that_count() -> None:
    """As in a reference batch: statistics of the whole data set, images of a part of it."""
    x, y = draw(60, 4, 5), draw(50, 4, 6)
    made = FeatureSet(Chunks.of(y[:5]), 4, Gaussian(y.mean(dim=0), y.T.cov()))
    assert frechet_distance(x, made) == pytest.approx(frechet_distance(x, y), rel=1e-9)
    assert len(made.rows()) == 5


def test_refusals() -> None:
    with pytest.raises(CellFailedError, match="needs at least 5"):
        frechet_distance(FeatureSet(Chunks.of(draw(4, 4, 0), 2), 4), draw(9, 4, 1))
    broken = draw(9, 4, 0)
    broken[7, 1] = np.inf
    with pytest.raises(CellFailedError, match="not finite"):
        frechet_distance(FeatureSet(Chunks.of(broken, 2), 4), draw(9, 4, 1))
    with pytest.raises(ValueError, match="not comparable"):
        frechet_distance(FeatureSet.of(draw(9, 3, 0)), draw(9, 4, 1))
