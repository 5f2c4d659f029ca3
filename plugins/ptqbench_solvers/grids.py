"""Spacings of timesteps: explicit lists, noisiest first."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ptqbench.errors import UserError


def uniform_timesteps(total: int, steps: int) -> Tensor:
    """Evenly spaced timesteps (steps,) int64, noisiest first: 1 + i * (total // steps) as latent diffusion lists them.

    Raises `UserError` unless `steps` divides `total`: rounding the stride silently changes the number of steps (asking a
    released sampler for 400 of 1000 steps runs 500).
    """
    require_steps(total, steps)
    if total % steps:
        near = min((d for d in range(1, total + 1) if total % d == 0), key=lambda d: abs(d - steps))
        raise UserError(
            f"{steps} steps do not divide a schedule of {total} timesteps", f"the nearest number that does is {near}"
        )
    offset = 1 if steps < total else 0
    return (torch.arange(steps, dtype=torch.int64, device="cpu") * (total // steps) + offset).flip(0)


def quadratic_timesteps(total: int, steps: int) -> Tensor:
    """Quadratically spaced timesteps (steps,) int64, noisiest first: int(linspace(0, sqrt(0.8 total), steps)^2).

    The first few may repeat (0 four times for 100 of 1000), as in the CIFAR-10 protocol; all of them are executed.
    """
    if steps < 2:
        raise UserError("a quadratic grid needs at least 2 steps", 'raise sampling.steps or use grid = "uniform"')
    roots = torch.linspace(0, math.sqrt(0.8 * total), steps, dtype=torch.float64, device="cpu")
    # 0.8 * total is met exactly only up to rounding: without the margin int() may land one timestep lower.
    return (roots.square() + 1e-9).to(torch.int64).flip(0)


def leading_timesteps(total: int, steps: int, offset: int = 1) -> Tensor:
    """i * (total // steps) + offset (steps,) int64, noisiest first (arXiv:2305.08891, table 2): the end of training, t = total,
    is left out where `steps` does not divide it."""
    require_steps(total, steps)
    found = (torch.arange(steps, dtype=torch.int64, device="cpu") * (total // steps) + offset).flip(0)
    if int(found[0]) >= total:
        raise UserError(f"timestep {int(found[0])} lies beyond a schedule of {total}", "lower steps or steps_offset")
    return found


def trailing_timesteps(total: int, steps: int) -> Tensor:
    """round(total - i total / steps) - 1 (steps,) int64, noisiest first: starts at the last timestep of training."""
    require_steps(total, steps)
    return (total - torch.arange(steps, dtype=torch.float64, device="cpu") * total / steps).round().to(torch.int64) - 1


def linspace_timesteps(total: int, steps: int) -> Tensor:
    """Both ends of training and what lies evenly between them, rounded: (steps,) int64, noisiest first."""
    require_steps(total, steps)
    return torch.linspace(0, total - 1, steps, dtype=torch.float64, device="cpu").round().to(torch.int64).flip(0)


def require_steps(total: int, steps: int) -> None:
    """Raises `UserError` for a number of steps that a schedule of `total` timesteps has not."""
    if not 1 <= steps <= total:
        raise UserError(f"{steps} sampling steps do not fit a schedule of {total}", f"choose between 1 and {total}")
