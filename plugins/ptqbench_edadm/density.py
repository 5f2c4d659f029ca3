"""How dense and how diverse the features of each sampling step are: the quantities of EDA-DM's step allocation."""

from __future__ import annotations

import torch
from torch import Tensor

NORM_FLOOR = 1e-6
"""Smallest length of a feature vector in a cosine, so that vanishing features have none."""


def pairwise(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared distances, and cosine distances summed over samples and positions, between steps: both (S, S) float64.

    `features` (S, n, C, ...) are feature maps, or tokens (S, n, N, C); cosines run over channels. Both follow from inner
    products, added up one sample at a time, so that memory beyond the features stays at one sample's.
    """
    steps, samples = features.shape[:2]
    products = torch.zeros(steps, steps, dtype=torch.float64, device=features.device)
    cosines = products.clone()
    pixels = 0
    for i in range(samples):
        x = features[:, i].double()
        channels = _channels(x)
        length = torch.linalg.vector_norm(x, dim=channels, keepdim=True).clamp_min(NORM_FLOOR)
        unit = (x / length).flatten(1)
        pixels += length[0].numel()
        x = x.flatten(1)
        products += x @ x.T
        cosines += unit @ unit.T
    squares = products.diagonal()
    distance = (squares[:, None] + squares[None] - 2 * products) / features[0].numel()
    return distance.clamp_min(0), pixels - cosines


def _channels(x: Tensor) -> int:
    """The axis of channels in one sample's features (S, ...): the last of vectors and tokens, the first of feature maps."""
    return 1 if x.dim() > 3 else -1


def density(distance: Tensor, radius: float) -> Tensor:
    """How many other steps lie within `radius` of each step: (S,) from distances (S, S)."""
    near = distance <= radius
    return (near.sum(1) - near.diagonal().long()).double()


def diversity(angle: Tensor) -> Tensor:
    """Sum of the cosine distances to all other steps: (S,) from summed cosine distances (S, S)."""
    return angle.sum(1) - angle.diagonal()


def normalised(x: Tensor) -> Tensor:
    """x (S,) shifted and scaled to [0, 1]; zeros if all values are equal."""
    span = x.max() - x.min()
    return (x - x.min()) / span if float(span) > 0 else torch.zeros_like(x)
