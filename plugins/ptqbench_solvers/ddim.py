"""The solver "ddim": the generalised update (arXiv:2010.02502, equation 12), with the noise that each image's id gives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ptqbench.roles.solver import Schedule, Solver, StepNoise, Update
from ptqbench_solvers import DdimOptions
from ptqbench_solvers.grids import (
    leading_timesteps,
    linspace_timesteps,
    quadratic_timesteps,
    trailing_timesteps,
    uniform_timesteps,
)


@dataclass(frozen=True)
class DdimSchedule(Schedule):
    """Timesteps (S,) noisiest first, with the cumulative alphas at each and after each step, float64."""

    timesteps: Tensor
    alpha: Tensor
    alpha_next: Tensor
    eta: float

    def start(self) -> Update:
        """The update, which remembers nothing."""
        return self.update

    def update(self, s: int, x: Tensor, eps: Tensor, noise: Tensor | None, planned: StepNoise | None = None) -> Tensor:
        """x after step s: x0 = (x - sqrt(1-a) eps) / sqrt(a); x' = sqrt(a') x0 + sqrt(1 - a' - sigma^2) eps + sigma noise.

        `planned` takes the place of `self.noise(s)`, where its `direction` is the sigma in the factor of eps.
        """
        planned = self.noise(s) if planned is None else planned
        a, b = planned.alpha, planned.alpha_next
        clean = (x - math.sqrt(1 - a) * eps) / math.sqrt(a)
        out = math.sqrt(b) * clean + math.sqrt(max(0.0, 1 - b - planned.direction**2)) * eps
        return out if noise is None else out + planned.sigma * noise

    @cached_property
    def gains(self) -> Tensor:
        """Derivative (S,) float64 of the next latent with respect to the noise prediction, the same for all elements:
        sqrt(1 - a' - sigma^2) - sqrt(a' (1 - a) / a), from the update above."""
        sigma = torch.tensor([self.noise(s).sigma for s in range(self.steps)], dtype=torch.float64, device=self.alpha.device)
        a, b = self.alpha, self.alpha_next
        return (1 - b - sigma.square()).clamp(min=0).sqrt() - (b * (1 - a) / a).sqrt()

    def noise(self, s: int) -> StepNoise:
        """Fresh noise of deviation eta sqrt((1-a')/(1-a)) sqrt(1 - a/a'); 0 for repeated steps."""
        a, b = float(self.alpha[s]), float(self.alpha_next[s])
        sigma = 0.0 if self.eta == 0 or a >= b else self.eta * math.sqrt((1 - b) / (1 - a)) * math.sqrt(1 - a / b)
        return StepNoise(a, b, sigma, sigma)


class Ddim(Solver):
    """Steps from each timestep of the grid to the next."""

    grids = ("uniform", "quad", "leading", "trailing", "linspace")
    stochastic = True
    options: DdimOptions

    def schedule(self, alphas_cumprod: Tensor, grid: str, steps: int, eta: float) -> DdimSchedule:
        """The last step leads to alpha = 1, the clean sample, or to the first timestep's. Raises `UserError` for steps that do
        not fit the grid."""
        timesteps = self._timesteps(grid, len(alphas_cumprod), steps)
        alpha = alphas_cumprod.to(torch.float64)
        last = torch.ones(1, dtype=torch.float64, device=alpha.device) if self.options.set_alpha_to_one else alpha[:1]
        return DdimSchedule(timesteps, alpha[timesteps], torch.cat([alpha[timesteps[1:]], last]), eta)

    def _timesteps(self, grid: str, total: int, steps: int) -> Tensor:
        if grid == "leading":
            return leading_timesteps(total, steps, self.options.steps_offset)
        spacings = {"uniform": uniform_timesteps, "quad": quadratic_timesteps, "trailing": trailing_timesteps}
        return spacings.get(grid, linspace_timesteps)(total, steps)
