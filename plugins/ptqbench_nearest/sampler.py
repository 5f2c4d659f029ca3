"""The calibration sampler `random`."""

from __future__ import annotations

import torch
from torch import Generator

from ptqbench.roles.sampler import CalibrationSampler, Selection, TrajectoryGrid, require_pairs


class RandomSampler(CalibrationSampler):
    """Every (trajectory, step) pair is equally likely, none is taken twice."""

    def select(self, grid: TrajectoryGrid, n: int, rng: Generator) -> Selection:
        """n distinct pairs. Raises `UserError` if the grid holds fewer."""
        require_pairs("random", grid, n)
        chosen = torch.randperm(grid.trajectories * grid.steps, generator=rng)[:n]
        return Selection(trajectory=chosen // grid.steps, step=chosen % grid.steps)
