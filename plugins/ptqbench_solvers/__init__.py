"""Solvers: DDIM of our own, and those of diffusers' schedulers that the field samples with.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ptqbench import Component, Options, hookimpl


class DdimOptions(Options):
    """Options of the solver `ddim`."""

    steps_offset: int = Field(1, ge=0, description='added to the timesteps of the grid "leading": 1 in latent diffusion')
    set_alpha_to_one: bool = Field(
        True,
        description="the last step leads to the clean sample; false: to the first timestep's alpha, as CompVis' code has it",
    )


class DpmSolverOptions(Options):
    """Options of the solver `dpm-solver++`."""

    order: Literal[1, 2, 3] = Field(2, description="order of the multistep method: 2 is DPM-Solver++(2M)")
    steps_offset: int = Field(0, ge=0, description='added to the timesteps of the grid "leading"')
    karras_sigmas: bool = Field(False, description="noise levels of arXiv:2206.00364, in place of a grid's")
    final_sigma: Literal["zero", "sigma_min"] = Field("zero", description="noise that the last step leaves")


class PlmsOptions(Options):
    """Options of the solver `plms`."""

    steps_offset: int = Field(1, ge=0, description='added to the timesteps of the grid "leading": 1 in Stable Diffusion')
    set_alpha_to_one: bool = Field(
        False, description="the last step leads to the clean sample, and not to the first timestep's alpha"
    )


class FlowEulerOptions(Options):
    """Options of the solver `flow-euler`."""

    shift: float | None = Field(
        None, gt=0, description="how far noise levels are moved towards pure noise; if left out, as the model's pipeline says"
    )


@hookimpl
def ptqbench_components() -> list[Component]:
    """ddim, dpm-solver++, plms, flow-euler."""
    return [
        Component(
            "solver",
            "ddim",
            "the generalised DDIM update, deterministic at eta 0 and DDPM's at eta 1; noise by image id",
            "ptqbench_solvers.ddim:Ddim",
            DdimOptions,
            paper="arXiv:2010.02502",
            released=(
                "diffusers' steps end at t - T // steps, which on the grid linspace is not the next timestep; here they do",
            ),
        ),
        Component(
            "solver",
            "dpm-solver++",
            "DPM-Solver++(2M) through diffusers' DPMSolverMultistepScheduler",
            "ptqbench_solvers.multistep:DpmSolver",
            DpmSolverOptions,
            paper="arXiv:2211.01095",
        ),
        Component(
            "solver",
            "plms",
            "PLMS as Stable Diffusion 1.x is sampled, through diffusers' PNDMScheduler; one prediction more than steps",
            "ptqbench_solvers.multistep:Plms",
            PlmsOptions,
            paper="arXiv:2202.09778",
        ),
        Component(
            "solver",
            "flow-euler",
            "Euler's steps along a rectified flow through diffusers' FlowMatchEulerDiscreteScheduler, shifted",
            "ptqbench_solvers.flow:FlowEuler",
            FlowEulerOptions,
            paper="arXiv:2403.03206",
        ),
    ]
