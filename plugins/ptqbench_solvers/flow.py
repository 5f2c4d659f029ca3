"""The solver "flow-euler": Euler's steps along a rectified flow, through diffusers' scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptqbench.errors import UserError
from ptqbench.roles.flow import alphas_of, shifted, sigmas_of
from ptqbench.roles.solver import Solver
from ptqbench_solvers import FlowEulerOptions
from ptqbench_solvers.grids import require_steps
from ptqbench_solvers.multistep import SchedulerSteps


@dataclass(frozen=True)
class FlowSteps(SchedulerSteps):
    """x' = x + (sigma' - sigma) v. `sigma` (S + 1,) float64 are the noise levels before each step, and after the last."""

    sigma: Tensor

    @cached_property
    def gains(self) -> Tensor:
        """Derivative (S,) float64 of the next latent with respect to the velocity: sigma' - sigma."""
        return self.sigma.diff()


class FlowEuler(Solver):
    """Levels from pure noise evenly down to the lowest of training (`linspace`, as for Stable Diffusion 3) or to 1 / steps
    (`trailing`, Flux), then shifted."""

    grids = ("linspace", "trailing")
    flow = True
    options: FlowEulerOptions

    def schedule(self, alphas_cumprod: Tensor, grid: str, steps: int, eta: float) -> FlowSteps:
        """As diffusers lists them. Raises `UserError` for more steps than timesteps, or a schedule that is no flow's."""
        from diffusers import FlowMatchEulerDiscreteScheduler  # slow to import: only when images are sampled

        require_steps(len(alphas_cumprod), steps)
        shift = shift_of(alphas_cumprod) if self.options.shift is None else self.options.shift
        scheduler: Any = FlowMatchEulerDiscreteScheduler(num_train_timesteps=len(alphas_cumprod), shift=shift)
        if grid == "trailing":
            scheduler.set_timesteps(sigmas=np.linspace(1.0, 1.0 / steps, steps).tolist())
        else:
            scheduler.set_timesteps(steps)
        scheduler.set_begin_index(0)
        sigma = scheduler.sigmas.to(torch.float64).cpu()
        return FlowSteps(scheduler.timesteps.cpu(), alphas_of(sigma[:-1]), scheduler, sigma)


def shift_of(alphas_cumprod: Tensor) -> float:
    """The shift of the noise levels t / T, t = 1..T, whose cumulative alphas (T,) these are.

    Raises `UserError` if there is none.
    """
    sigma = sigmas_of(alphas_cumprod.to(torch.float64))
    even = torch.arange(1, len(sigma) + 1, dtype=torch.float64, device=sigma.device) / len(sigma)
    middle = (len(sigma) - 1) // 2
    found = float(sigma[middle] / (1 - sigma[middle]) * (1 - even[middle]) / even[middle])
    if len(sigma) < 2 or not torch.allclose(sigma, shifted(even, found), rtol=1e-6, atol=0.0):
        raise UserError("the model's noise levels are not those of a shifted flow", "state the solver's option `shift`")
    return found
