"""The calibration sampler `normal`."""

from __future__ import annotations

import torch
from torch import Generator

from ptqbench.errors import UserError
from ptqbench.roles.sampler import CalibrationSampler, Selection, TrajectoryGrid
from ptqbench_ptq4dm import NormalOptions


class NormalSampler(CalibrationSampler):
    """Steps k = trunc(Normal(mean, std) * S), clamped to [0, S - 1] and counted from the clean end, as timesteps are.

    Trajectories are used as evenly as possible."""

    options: NormalOptions

    def select(self, grid: TrajectoryGrid, n: int, rng: Generator) -> Selection:
        """n pairs in random order; a pair repeats only if a step was drawn more often than there are trajectories.

        Raises `UserError` if n exceeds the number of pairs.
        """
        if n > grid.trajectories * grid.steps:
            raise UserError(
                f"the sampler normal cannot choose {n} calibration samples from {grid.trajectories} trajectories of "
                f"{grid.steps} steps",
                "record more trajectories or lower the number of calibration samples",
            )
        draws = torch.randn(n, generator=rng, dtype=torch.float64) * self.options.std + self.options.mean
        k = (draws * grid.steps).trunc().clamp(0, grid.steps - 1).to(torch.int64)
        # Dealing trajectories in turn to sorted steps gives equal steps different trajectories.
        k = k.sort().values
        trajectory = torch.randperm(grid.trajectories, generator=rng)[torch.arange(n) % grid.trajectories]
        order = torch.randperm(n, generator=rng)
        k, trajectory = k[order], trajectory[order]
        if self.options.compat:
            # The released code counts the state's steps from the noisy end, and feeds the network k all the same.
            return Selection(trajectory=trajectory, step=k + 1, t=k)
        return Selection(trajectory=trajectory, step=grid.steps - 1 - k)
