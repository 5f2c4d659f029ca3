"""Multistep solvers: diffusers' scheduler classes, which keep what earlier steps predicted, as steps of a `Schedule`."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ptqbench.roles.solver import Schedule, Solver, StepNoise, Update
from ptqbench_solvers import DpmSolverOptions, PlmsOptions
from ptqbench_solvers.grids import require_steps


@dataclass(frozen=True)
class SchedulerSteps(Schedule):
    """The steps that a scheduler of diffusers lists; `scheduler` is one that has not stepped yet."""

    timesteps: Tensor
    alpha: Tensor
    scheduler: Any

    def start(self) -> Update:
        """A scheduler of its own for the batch."""
        scheduler = copy.deepcopy(self.scheduler)

        def update(s: int, x: Tensor, eps: Tensor, noise: Tensor | None, planned: StepNoise) -> Tensor:
            after: Tensor = scheduler.step(eps, self.timesteps[s].item(), x, return_dict=False)[0]
            return after

        return update


def begun(scheduler: Any, alphas_cumprod: Tensor, steps: int) -> SchedulerSteps:
    """The steps of a scheduler that was made for these cumulative alphas. Raises `UserError` for more steps than timesteps."""
    require_steps(len(alphas_cumprod), steps)
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_begin_index"):
        # Where timesteps repeat it would else take the second of them for the first.
        scheduler.set_begin_index(0)
    timesteps = scheduler.timesteps.to(torch.int64).cpu()
    return SchedulerSteps(timesteps, alphas_cumprod.to(torch.float64)[timesteps], scheduler)


def betas_of(alphas_cumprod: Tensor) -> list[float]:
    """The betas (T,) whose cumulative alphas these are."""
    alpha = alphas_cumprod.to(torch.float64)
    return (1.0 - alpha / torch.cat([torch.ones(1, dtype=torch.float64, device=alpha.device), alpha[:-1]])).tolist()


class DpmSolver(Solver):
    """DPM-Solver++ of the chosen order in its multistep form."""

    grids = ("linspace", "leading", "trailing")
    options: DpmSolverOptions

    def schedule(self, alphas_cumprod: Tensor, grid: str, steps: int, eta: float) -> SchedulerSteps:
        """As diffusers lists them. Raises `UserError` for more steps than timesteps."""
        from diffusers import DPMSolverMultistepScheduler  # slow to import: only when images are sampled

        scheduler: Any = DPMSolverMultistepScheduler(
            num_train_timesteps=len(alphas_cumprod),
            trained_betas=betas_of(alphas_cumprod),
            solver_order=self.options.order,
            use_karras_sigmas=self.options.karras_sigmas,
            final_sigmas_type=self.options.final_sigma,
            timestep_spacing=grid,
            steps_offset=self.options.steps_offset,
        )
        found = begun(scheduler, alphas_cumprod, steps)
        if not self.options.karras_sigmas:
            return found
        # These levels lie between timesteps, to which only what the denoiser is told is rounded.
        sigma = scheduler.sigmas[:-1].to(torch.float64).cpu()
        return dataclasses.replace(found, alpha=1 / (1 + sigma.square()))


class Plms(Solver):
    """Pseudo linear multistep: four predictions together; the second timestep is predicted twice to get going."""

    grids = ("leading", "linspace", "trailing")
    options: PlmsOptions

    def schedule(self, alphas_cumprod: Tensor, grid: str, steps: int, eta: float) -> SchedulerSteps:
        """As diffusers lists them: one more prediction than `steps`. Raises `UserError` for more steps than timesteps."""
        from diffusers import PNDMScheduler

        scheduler = PNDMScheduler(
            num_train_timesteps=len(alphas_cumprod),
            trained_betas=betas_of(alphas_cumprod),
            skip_prk_steps=True,
            set_alpha_to_one=self.options.set_alpha_to_one,
            timestep_spacing=grid,
            steps_offset=self.options.steps_offset,
        )
        return begun(scheduler, alphas_cumprod, steps)
