"""Calibration samples from some steps of the trajectories only."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Generator

from ptqbench import Component, Options, hookimpl
from ptqbench.errors import UserError
from ptqbench.roles.sampler import CalibrationSampler, Selection, TrajectoryGrid


class ExampleOptions(Options):
    """What a recipe may set."""

    share: float = Field(0.5, gt=0, le=1, description="share of the sampling steps to choose from, noisiest first")


class Example(CalibrationSampler):
    """Pairs of the noisiest steps, no pair twice."""

    options: ExampleOptions

    def select(self, grid: TrajectoryGrid, n: int, rng: Generator) -> Selection:
        """n pairs, drawn from `rng` alone. Raises `UserError` if there are fewer."""
        steps = max(1, round(self.options.share * grid.steps))
        there = steps * grid.trajectories
        if n > there:
            raise UserError(f"example has {there} pairs for {n} samples", "raise share or calibration.trajectories")
        chosen = torch.randperm(there, generator=rng)[:n]
        return Selection(trajectory=chosen % grid.trajectories, step=chosen // grid.trajectories)


@hookimpl
def ptqbench_components() -> list[Component]:
    return [Component("sampler", "example", "random pairs of the noisiest steps", Example, ExampleOptions)]
