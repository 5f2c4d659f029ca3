"""Precision and recall from nearest-neighbour manifolds (Kynkaanniemi et al., arXiv:1904.06991), in float64.

A set's manifold is the union of balls around its members that each reach to the member's k-th nearest neighbour in the set.
Distances exist for some rows at a time only.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ptqbench.errors import CellFailedError

BUDGET = 64 * 2**20
"""Bytes of distances that exist at one time."""


def ball_radii(features: Tensor, neighbours: int) -> Tensor:
    """Squared distance (N,) of each row of features (N, D) to its k-th nearest other row.

    Raises `CellFailedError` for fewer than k + 1 rows, or values that are not finite.
    """
    if len(features) <= neighbours:
        raise CellFailedError(
            f"{len(features)} images have no {neighbours} nearest neighbours: at least {neighbours + 1} are needed",
            "generate more images (sampling.images), or give a larger reference set",
        )
    if not bool(torch.isfinite(features).all()):
        raise CellFailedError("features are not finite", "look at this cell's images and at the extractor")
    radii = []
    for start, distances in _distances(features, features):
        index = torch.arange(len(distances))
        distances[index, index + start] = torch.inf
        radii.append(distances.kthvalue(neighbours, dim=1).values)
    return torch.cat(radii)


def inside(points: Tensor, centres: Tensor, radii: Tensor) -> Tensor:
    """Whether each row of points (N, D) lies in any ball around centres (M, D) of squared radii (M,): (N,) bool."""
    return torch.cat([(distances <= radii).any(dim=1) for _, distances in _distances(points, centres)])


def _distances(x: Tensor, y: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Squared distances of some rows of x (N, D) to all rows of y (M, D), with the first row's index.

    The mean of y is taken off first: features far from the origin would lose digits in the differences of squares.
    """
    centre = y.mean(dim=0)
    x, y = x - centre, y - centre
    squares = y.square().sum(dim=1)
    size = max(1, BUDGET // (8 * len(y)))
    for start in range(0, len(x), size):
        part = x[start : start + size]
        yield start, (part.square().sum(dim=1, keepdim=True) + squares - 2.0 * (part @ y.T)).clamp_min(0.0)
