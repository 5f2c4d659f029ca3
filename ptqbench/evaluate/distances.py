"""Distances between two sets of feature vectors, in float64: the Frechet distance and the kernel distance (KID).

Both come with what a delete-a-block interval needs (`ptqbench.evaluate.intervals`): the distance again with one block
of images left out, found by taking that block's share away instead of starting over.

A set that is *paired* with its reference was made from the same noise: row i of both belongs to one noise id. The ids
are then what was drawn at random, so a left-out block leaves both sets, and the kernel distance skips the pairs (i, i).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptqbench.evaluate.features import FeatureSet, same_width
from ptqbench.evaluate.moments import Gaussian, Moments, checked, require_rows

CHUNK = 1024
"""Rows of a kernel matrix that exist at one time."""


def required_images(dimensions: int) -> int:
    """The least number of images for a Frechet distance: fewer leave a singular covariance of `dimensions` features."""
    return max(2, dimensions + 1)


def frechet_from_moments(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> float:
    """||mean1 - mean2||^2 + tr cov1 + tr cov2 - 2 tr (cov1 cov2)^(1/2), in squared feature units.

    Means are (D,), covariances (D, D), float64. The trace of the root is the sum of the roots of the eigenvalues of
    cov1^(1/2) cov2 cov1^(1/2), which is symmetric: no complex arithmetic and no matrix root that may fail to converge.
    Eigenvalues below 0 are rounding errors and count as 0, and so does a distance below 0.
    """
    return _frechet(Gaussian(mean1, cov1), _square_root(cov1), Gaussian(mean2, cov2))


def frechet_distance(features: Tensor | FeatureSet, reference: Tensor | FeatureSet) -> float:
    """Frechet distance between Gaussians fitted to features (N, D) and (M, D).

    Raises `CellFailedError` when either set has fewer than D + 1 rows, or values that are not finite.
    """
    ours, theirs = same_width(features, reference)
    a, b = (x.gaussian(required_images(x.width)) for x in (ours, theirs))
    # The reference goes first, as it does with blocks left out: equal sets give equal numbers.
    return _frechet(b, _square_root(b.covariance), a)


def frechet_without_blocks(
    features: Tensor | FeatureSet, reference: Tensor | FeatureSet, blocks: NDArray[np.int64], *, paired: bool = False
) -> list[float]:
    """The Frechet distance with each block of images left out; `blocks` (N,) labels rows of `features` from 0."""
    ours, theirs = same_width(features, reference)
    require_rows(len(ours), ours.width, least=3)
    if paired:
        return [
            _frechet(b, _square_root(b.covariance), a)
            for a, b in zip(_without_each(ours, blocks), _without_each(theirs, blocks), strict=True)
        ]
    fixed = theirs.gaussian(least=3)
    root = _square_root(fixed.covariance)
    return [_frechet(fixed, root, a) for a in _without_each(ours, blocks)]


def _without_each(features: FeatureSet, blocks: NDArray[np.int64]) -> Iterator[Gaussian]:
    """The set's Gaussian without block 0, without block 1, ..."""
    for rows in features.blocks(blocks):
        yield features.moments.minus(Moments.of(rows)).gaussian()


def _frechet(a: Gaussian, root: Tensor, b: Gaussian) -> float:
    """The distance of two Gaussians; `root` is the square root of the first one's covariance."""
    middle = root @ b.covariance @ root
    cross = torch.linalg.eigvalsh((middle + middle.T) / 2).clamp_min(0.0).sqrt().sum()
    shift = (a.mean - b.mean).square().sum()
    return max(0.0, float(shift + a.covariance.trace() + b.covariance.trace() - 2.0 * cross))


def kernel_distance(features: Tensor | FeatureSet, reference: Tensor | FeatureSet, *, paired: bool = False) -> float:
    """Unbiased squared maximum mean discrepancy of features (N, D) and (M, D) under the kernel (x.y / D + 1)^3.

    Unbiased means that it may come out below 0. Raises `CellFailedError` for fewer than 2 rows.
    """
    whole = np.zeros(max(1, len(features)), dtype=np.int64)
    return kernel_distance_blocks(features, reference, whole, paired=paired)[0]


def kernel_distance_blocks(
    features: Tensor | FeatureSet, reference: Tensor | FeatureSet, blocks: NDArray[np.int64], *, paired: bool = False
) -> tuple[float, list[float]]:
    """The kernel distance, and the distance with each block of images left out (empty when there is one block).

    `blocks` (N,) labels rows of `features` from 0. The kernel is summed once, block by block; what is left out is then
    only subtracted. Memory grows with N + M, not with their product: all feature vectors are there, no image is.
    """
    count = int(blocks.max()) + 1
    # Two rows make the one pair that a mean needs; with a block left out, three.
    x, y = (checked(z.rows(), least=2 if count == 1 else 3) for z in same_width(features, reference))
    if paired and len(x) != len(y):
        raise ValueError(f"{len(x)} images cannot be paired with {len(y)}")
    mine = _one_hot(blocks, count)
    other = mine if paired else _one_hot(np.zeros(len(y), dtype=np.int64), 1)
    xx = _BlockSums.of(x, x, mine, mine, skip_diagonal=True)
    yy = _BlockSums.of(y, y, other, other, skip_diagonal=True)
    xy = _BlockSums.of(x, y, mine, other, skip_diagonal=paired)

    def distance(left_out: int | None) -> float:
        theirs = left_out if paired else None
        return xx.mean(left_out, left_out) + yy.mean(theirs, theirs) - 2.0 * xy.mean(left_out, theirs)

    return distance(None), [distance(block) for block in range(count)] if count > 1 else []


@dataclass(frozen=True)
class _BlockSums:
    """Sums of the kernel over pairs, and numbers of pairs, by the row's and the column's block: both (B1, B2)."""

    sums: Tensor
    pairs: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor, rows: Tensor, columns: Tensor, *, skip_diagonal: bool) -> _BlockSums:
        sums = torch.zeros(rows.shape[0], columns.shape[0], dtype=torch.float64)
        for start in range(0, len(x), CHUNK):
            part = slice(start, start + CHUNK)
            kernel = (x[part] @ y.T / x.shape[1] + 1.0) ** 3
            if skip_diagonal:
                index = torch.arange(len(kernel))
                kernel[index, index + start] = 0.0
            sums += rows[:, part] @ kernel @ columns.T
        pairs = torch.outer(rows.sum(dim=1), columns.sum(dim=1))
        return cls(sums, pairs - torch.diag(rows.sum(dim=1)) if skip_diagonal else pairs)

    def mean(self, row: int | None, column: int | None) -> float:
        """Mean over all pairs without those of block `row` or of block `column`."""
        return _without(self.sums, row, column) / _without(self.pairs, row, column)


def _without(table: Tensor, row: int | None, column: int | None) -> float:
    total = float(table.sum())
    if row is not None:
        total -= float(table[row].sum())
    if column is not None:
        total -= float(table[:, column].sum())
    if row is not None and column is not None:
        total += float(table[row, column])
    return total


def _one_hot(blocks: NDArray[np.int64], count: int) -> Tensor:
    return torch.from_numpy(np.arange(count)[:, None] == blocks[None, :]).to(torch.float64)


def _square_root(matrix: Tensor) -> Tensor:
    """The square root of a symmetric positive semidefinite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return torch.mm(vectors * values.clamp_min(0.0).sqrt(), vectors.T)
