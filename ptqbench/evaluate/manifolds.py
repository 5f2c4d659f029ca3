"""Precision and recall from nearest-neighbour manifolds (Kynkaanniemi et al., arXiv:1904.06991), in float64.

A set's manifold is the union of balls around its members that each reach to the member's k-th nearest neighbour in the set.
Distances and feature vectors exist for some pairs at a time only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ptqbench.errors import CellFailedError
from ptqbench.evaluate.features import FeatureSet, as_features, same_width
from ptqbench.evaluate.tiles import TILE, tiles


def ball_radii(features: Tensor | FeatureSet, neighbours: int) -> Tensor:
    """Squared distance (N,) of each row of features (N, D) to its k-th nearest other row.

    Raises `CellFailedError` for fewer than k + 1 rows, or values that are not finite.
    """
    x = as_features(features)
    count = x.require_images()
    if count <= neighbours:
        raise CellFailedError(
            f"{count} images have no {neighbours} nearest neighbours: at least {neighbours + 1} are needed",
            "generate more images (sampling.images), or give a larger reference set",
        )
    centre = _mean(x)
    nearest = torch.full((count, neighbours), torch.inf, dtype=torch.float64, device="cpu")
    for tile in tiles(x):
        distances = _squared(tile.x - centre, tile.y - centre)
        if tile.on_diagonal:
            distances.fill_diagonal_(torch.inf)
        _keep_nearest(nearest[tile.rows], distances)
        if not tile.on_diagonal:
            _keep_nearest(nearest[tile.columns], distances.T)
    return nearest[:, -1]


def coverage(
    features: Tensor | FeatureSet, reference: Tensor | FeatureSet, radii: Tensor, reference_radii: Tensor
) -> tuple[Tensor, Tensor]:
    """Whether each row of features (N, D) lies in any ball of the reference (M, D), and the other way round: bool (N,), (M,).

    `radii` (N,) and `reference_radii` (M,) are squared, as `ball_radii` gives them. Raises `CellFailedError` for values that
    are not finite.
    """
    x, y = same_width(features, reference)
    centre = _mean(y)
    inside, around = (torch.zeros(len(z), dtype=torch.bool, device="cpu") for z in (x, y))
    for tile in tiles(x, y):
        distances = _squared(tile.x - centre, tile.y - centre)
        inside[tile.rows] |= (distances <= reference_radii[tile.columns]).any(dim=1)
        around[tile.columns] |= (distances <= radii[tile.rows].unsqueeze(1)).any(dim=0)
    return inside, around


def _keep_nearest(nearest: Tensor, distances: Tensor) -> None:
    """Put the k smallest of each row of `nearest` (n, k) and `distances` (n, m) into `nearest`, in ascending order."""
    nearest.copy_(torch.cat([nearest, distances], dim=1).topk(nearest.shape[1], dim=1, largest=False).values)


def _mean(features: FeatureSet) -> Tensor:
    """The mean, taken off before distances are: features far from the origin would lose digits in differences of squares."""
    return torch.stack([part.sum(dim=0) for part in features.slices(TILE)]).sum(dim=0) / len(features)


def _squared(x: Tensor, y: Tensor) -> Tensor:
    return (x.square().sum(dim=1, keepdim=True) + y.square().sum(dim=1) - 2.0 * (x @ y.T)).clamp_min_(0.0)
