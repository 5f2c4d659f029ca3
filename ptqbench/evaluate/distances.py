"""Distances between two sets of feature vectors, in float64: the Frechet distance and the kernel distance (KID).

Both come with what a delete-a-block interval needs (`ptqbench.evaluate.intervals`): the distance again with one block
of images left out, found by taking that block's share away instead of starting over.

A set that is *paired* with its reference was made from the same noise: row i of both belongs to one noise id. The ids
are then what was drawn at random, so a left-out block leaves both sets, and the kernel distance skips the pairs (i, i).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptqbench.errors import CellFailedError

CHUNK = 1024
"""Rows of a kernel matrix that exist at one time."""


@dataclass(frozen=True)
class Moments:
    """Count, mean (D,) and scatter (D, D) of a set: scatter is the sum over rows of (x - mean)(x - mean)^T, float64.

    Sets are joined and taken apart exactly, so large sets can be read in pieces.
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """Moments of features (N, D). Raises `CellFailedError` for an empty set or a value that is not finite."""
        x = _checked(features, least=1)
        mean = x.mean(dim=0)
        return cls(len(x), mean, (x - mean).T @ (x - mean))

    def plus(self, other: Moments) -> Moments:
        """The moments of both sets together."""
        count = self.count + other.count
        shift = other.mean - self.mean
        scatter = self.scatter + other.scatter + torch.outer(shift, shift) * (self.count * other.count / count)
        return Moments(count, self.mean + shift * (other.count / count), scatter)

    def minus(self, part: Moments) -> Moments:
        """The moments of what remains when `part`, a proper subset, is taken away."""
        count = self.count - part.count
        if count < 1:
            raise ValueError(f"nothing remains of {self.count} rows without {part.count}")
        mean = self.mean + (self.mean - part.mean) * (part.count / count)
        shift = part.mean - mean
        scatter = self.scatter - part.scatter - torch.outer(shift, shift) * (count * part.count / self.count)
        return Moments(count, mean, scatter)

    def covariance(self) -> Tensor:
        """Unbiased covariance (D, D)."""
        return self.scatter / (self.count - 1)


def required_images(dimensions: int) -> int:
    """The least number of images for a Frechet distance: fewer leave a singular covariance of `dimensions` features."""
    return max(2, dimensions + 1)


def frechet_from_moments(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> float:
    """||mean1 - mean2||^2 + tr cov1 + tr cov2 - 2 tr (cov1 cov2)^(1/2), in squared feature units.

    Means are (D,), covariances (D, D), float64. The trace of the root is the sum of the roots of the eigenvalues of
    cov1^(1/2) cov2 cov1^(1/2), which is symmetric: no complex arithmetic and no matrix root that may fail to converge.
    Eigenvalues below 0 are rounding errors and count as 0, and so does a distance below 0.
    """
    root = _square_root(cov1)
    middle = root @ cov2 @ root
    cross = torch.linalg.eigvalsh((middle + middle.T) / 2).clamp_min(0.0).sqrt().sum()
    shift = (mean1 - mean2).square().sum()
    return max(0.0, float(shift + cov1.trace() + cov2.trace() - 2.0 * cross))


def frechet_distance(features: Tensor, reference: Tensor) -> float:
    """Frechet distance between Gaussians fitted to features (N, D) and (M, D).

    Raises `CellFailedError` when either set has fewer than D + 1 rows, or values that are not finite.
    """
    a, b = (Moments.of(_checked(x, least=required_images(x.shape[1]))) for x in _same_width(features, reference))
    return frechet_from_moments(a.mean, a.covariance(), b.mean, b.covariance())


def frechet_without_blocks(
    features: Tensor, reference: Tensor, blocks: NDArray[np.int64], *, paired: bool = False
) -> list[float]:
    """The Frechet distance with each block of images left out; `blocks` (N,) labels rows of `features` from 0."""
    ours, theirs = (Moments.of(_checked(x, least=3)) for x in _same_width(features, reference))
    distances = []
    for block in range(int(blocks.max()) + 1):
        chosen = torch.from_numpy(blocks == block)
        a = ours.minus(Moments.of(features[chosen]))
        b = theirs.minus(Moments.of(reference[chosen])) if paired else theirs
        # The reference goes first: its root is the one that does not depend on the cell.
        distances.append(frechet_from_moments(b.mean, b.covariance(), a.mean, a.covariance()))
    return distances


def kernel_distance(features: Tensor, reference: Tensor, *, paired: bool = False) -> float:
    """Unbiased squared maximum mean discrepancy of features (N, D) and (M, D) under the kernel (x.y / D + 1)^3.

    Unbiased means that it may come out below 0. Raises `CellFailedError` for fewer than 2 rows.
    """
    whole = np.zeros(max(1, len(features)), dtype=np.int64)
    return kernel_distance_blocks(features, reference, whole, paired=paired)[0]


def kernel_distance_blocks(
    features: Tensor, reference: Tensor, blocks: NDArray[np.int64], *, paired: bool = False
) -> tuple[float, list[float]]:
    """The kernel distance, and the distance with each block of images left out (empty when there is one block).

    `blocks` (N,) labels rows of `features` from 0. The kernel is summed once, block by block; what is left out is then
    only subtracted. Memory grows with N + M, not with their product.
    """
    count = int(blocks.max()) + 1
    # Two rows make the one pair that a mean needs; with a block left out, three.
    x, y = (_checked(z, least=2 if count == 1 else 3) for z in _same_width(features, reference))
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


def _same_width(features: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    if features.ndim != 2 or reference.ndim != 2 or features.shape[1] != reference.shape[1]:
        raise ValueError(f"features {tuple(features.shape)} and reference {tuple(reference.shape)} are not comparable")
    return features, reference


def _checked(features: Tensor, least: int) -> Tensor:
    if len(features) < least:
        raise CellFailedError(
            f"{len(features)} images are too few: this distance on {features.shape[1]} features needs at least {least}",
            f"generate more images (sampling.images = {least} or more), or give a larger reference set",
        )
    if not bool(torch.isfinite(features).all()):
        raise CellFailedError("features are not finite", "look at this cell's images and at the extractor")
    return features.to(device="cpu", dtype=torch.float64)
