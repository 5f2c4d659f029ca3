"""Gradients of a unit's task loss at given values of its trainables, and how they lie to each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ptqbench.fitting.inner import UnitProblem

BATCH = 64
"""Samples in one evaluation."""

Params = Mapping[str, Tensor]


def frozen_params(problem: UnitProblem) -> dict[str, Tensor]:
    """Copies of the current trainables that do not move with them."""
    return {name: value.detach().clone() for name, value in problem.params.items()}


def mean_gradient(problem: UnitProblem, samples: Tensor, params: Params) -> tuple[Tensor, float]:
    """Gradient (P,) of the mean task loss over these places of the calibration set, in float64, and that loss.

    Penalties do not count. P is the number of trainable values, in the order of `params`; they and their `.grad` stay as
    they are.
    """
    total, loss = torch.zeros(sum(value.numel() for value in params.values()), dtype=torch.float64, device="cpu"), 0.0
    for piece in samples.split(BATCH):
        slope, value = _summed_gradient(problem, piece, params)
        total, loss = total + slope, loss + value
    return total / len(samples), loss / len(samples)


def sample_gradients(problem: UnitProblem, samples: Tensor, params: Params) -> Iterator[Tensor]:
    """The gradient (P,) of each sample's own task loss, in float64."""
    for sample in samples.split(1):
        yield _summed_gradient(problem, sample, params)[0]


def _summed_gradient(problem: UnitProblem, samples: Tensor, params: Params) -> tuple[Tensor, float]:
    leaves = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
    with torch.enable_grad():
        loss = problem.losses(problem.batch(samples, torch.arange(len(samples), dtype=torch.int64, device="cpu")), leaves).sum()
    # A parameter of other timesteps than these samples' has no part in their loss.
    slopes = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return torch.cat([slope.flatten() for slope in slopes]).double().cpu(), float(loss.detach())


def cosines(gradients: Tensor) -> Tensor:
    """Cosine of the angle between each two rows: (G, G) from (G, P); NaN beside a row that is zero or not finite."""
    norms = gradients.norm(dim=1)
    usable = torch.isfinite(norms) & (norms > 0)
    unit = torch.where(usable[:, None], gradients / norms[:, None], torch.nan)
    return (unit @ unit.T).clamp(-1.0, 1.0)


def evenly(places: Tensor, limit: int) -> Tensor:
    """At most `limit` of these places, evenly spread and the same for everybody."""
    if len(places) <= limit:
        return places
    return places[torch.arange(limit, dtype=torch.int64, device="cpu") * len(places) // limit]
