"""The calibration sampler `random`."""

from __future__ import annotations

import torch
from torch import Generator

from ptqbench.errors import UserError
from ptqbench.roles.sampler import CalibrationSampler, Selection, TrajectoryGrid


class RandomSampler(CalibrationSampler):
    """Every (trajectory, step) pair is equally likely, none is taken twice."""

    def select(self, grid: TrajectoryGrid, n: int, rng: Generator) -> Selection:
        """n distinct pairs. Raises `UserError` if the grid holds fewer."""
        pairs = grid.trajectories * grid.steps
        if n > pairs:
            raise UserError(
                f"the sampler random cannot choose {n} calibration samples from {grid.trajectories} trajectories "
                f"of {grid.steps} steps",
                "record more trajectories or lower the number of calibration samples",
            )
        chosen = torch.randperm(pairs, generator=rng)[:n]
        return Selection(trajectory=chosen // grid.steps, step=chosen % grid.steps)
