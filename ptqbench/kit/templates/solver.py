"""Euler's method on the deterministic path from noise to image, which is DDIM without noise of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from ptqbench import Component, NoOptions, hookimpl
from ptqbench.errors import UserError
from ptqbench.roles.solver import Schedule, Solver, StepNoise, Update


class Steps(Schedule):
    """Labels (S,) int64, noisiest first, and the cumulative alphas there, (S,) float64."""

    def __init__(self, alphas_cumprod: Tensor, timesteps: Tensor) -> None:
        self.timesteps, self.alpha = timesteps, alphas_cumprod[timesteps]

    def start(self) -> Update:
        """The update of one batch; this one remembers nothing between steps."""

        def update(s: int, x: Tensor, eps: Tensor, noise: Tensor | None, planned: StepNoise) -> Tensor:
            clean = (x - (1 - planned.alpha) ** 0.5 * eps) / planned.alpha**0.5
            return planned.alpha_next**0.5 * clean + (1 - planned.alpha_next) ** 0.5 * eps

        return update


class Example(Solver):
    """The last step ends at the clean image."""

    grids = ("leading",)

    def schedule(self, alphas_cumprod: Tensor, grid: str, steps: int, eta: float) -> Schedule:
        """Raises `UserError` for more steps than the model was trained with."""
        if steps > len(alphas_cumprod):
            raise UserError(f"{steps} steps of {len(alphas_cumprod)} timesteps", "lower sampling.steps")
        timesteps = torch.arange(steps).flip(0) * (len(alphas_cumprod) // steps)
        return Steps(alphas_cumprod, timesteps)


@hookimpl
def ptqbench_components() -> list[Component]:
    return [Component("solver", "example", "Euler's method", Example, NoOptions)]
