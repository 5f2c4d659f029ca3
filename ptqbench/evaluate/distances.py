"""The Frechet distance between two sets of feature vectors, in float64.

It comes with what a delete-a-block interval needs (`ptqbench.evaluate.intervals`): the distance again with one block of
images left out, found by taking that block's share away instead of starting over.

A set that is *paired* with its reference was made from the same noise: row i of both belongs to one noise id. The ids
are then what was drawn at random, so a left-out block leaves both sets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptqbench.errors import CellFailedError
from ptqbench.evaluate.features import FeatureSet, same_width
from ptqbench.evaluate.moments import Gaussian, Moments, require_rows

ROUNDING = 1e-20
"""Variance, as a share of the squared mean, below which feature vectors are equal but for rounding in float64."""


def required_images(dimensions: int) -> int:
    """The least number of images for a Frechet distance: fewer leave a singular covariance of `dimensions` features."""
    return max(2, dimensions + 1)


def frechet_distance(features: Tensor | FeatureSet, reference: Tensor | FeatureSet) -> float:
    """||mean_a - mean_b||^2 + tr cov_a + tr cov_b - 2 tr (cov_a cov_b)^(1/2), in squared feature units, of Gaussians fitted to
    features (N, D) and (M, D), or of ready-made ones.

    Raises `CellFailedError` when either set has fewer than D + 1 rows, or values that are not finite.
    """
    ours, theirs = same_width(features, reference)
    a, b = (x.gaussian(required_images(x.width)) for x in (ours, theirs))
    _require_spread(b)
    # The reference goes first, as it does with blocks left out: equal sets give equal numbers.
    return _frechet(b, _root(theirs, "all", b), a)


def _require_spread(reference: Gaussian) -> None:
    if float(reference.covariance.trace()) <= ROUNDING * float(reference.mean.square().sum()):
        raise CellFailedError(
            "all reference images have the same features: a distance to them says nothing",
            "look at the reference images, at the full-precision images, and at the extractor's weights",
        )


def frechet_without_blocks(
    features: Tensor | FeatureSet, reference: Tensor | FeatureSet, blocks: NDArray[np.int64], *, paired: bool = False
) -> list[float]:
    """The Frechet distance with each block of images left out; `blocks` (N,) labels rows of `features` from 0."""
    ours, theirs = same_width(features, reference)
    require_rows(len(ours), ours.width, least=3)
    if paired:
        pairs = zip(_without_each(ours, blocks), _without_each(theirs, blocks), strict=True)
        labels = hashlib.sha256(blocks.tobytes()).hexdigest()
        return [_frechet(b, _root(theirs, f"without block {i} of {labels}", b), a) for i, (a, b) in enumerate(pairs)]
    fixed = theirs.gaussian(least=3)
    root = _root(theirs, "all", fixed)
    return [_frechet(fixed, root, a) for a in _without_each(ours, blocks)]


def _without_each(features: FeatureSet, blocks: NDArray[np.int64]) -> Iterator[Gaussian]:
    """The set's Gaussian without block 0, without block 1, ..."""
    for rows in features.blocks(blocks):
        yield features.moments.minus(Moments.of(rows)).gaussian()


def _frechet(a: Gaussian, root: Tensor, b: Gaussian) -> float:
    """The distance of two Gaussians; `root` is the square root of the first one's covariance.

    The trace of the root is the sum of the roots of the eigenvalues of cov_a^(1/2) cov_b cov_a^(1/2), which is symmetric: no
    complex arithmetic and no matrix root that may fail to converge. Eigenvalues below 0 are rounding errors and count as 0,
    and so does a distance below 0.
    """
    middle = root @ b.covariance @ root
    cross = torch.linalg.eigvalsh((middle + middle.T) / 2).clamp_min(0.0).sqrt().sum()
    shift = (a.mean - b.mean).square().sum()
    # Not with max(), which takes not-a-number for less than zero.
    return float((shift + a.covariance.trace() + b.covariance.trace() - 2.0 * cross).clamp_min(0.0))


def _root(reference: FeatureSet, which: str, part: Gaussian) -> Tensor:
    """The square root of the covariance of one part of a reference, which every set that it is compared with needs."""
    return reference.keep(f"root, {which}", lambda: _square_root(part.covariance))


def _square_root(matrix: Tensor) -> Tensor:
    """The square root of a symmetric positive semidefinite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return torch.mm(vectors * values.clamp_min(0.0).sqrt(), vectors.T)
