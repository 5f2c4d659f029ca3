"""The calibration sampler `normal`."""

from __future__ import annotations

import torch
from torch import Generator

from ptqbench.roles.sampler import CalibrationSampler, Selection, TrajectoryGrid, deal, require_pairs
from ptqbench_ptq4dm import NormalOptions


class NormalSampler(CalibrationSampler):
    """Steps k = trunc(Normal(mean, std) * S), clamped to [0, S - 1] and counted from the clean end, as timesteps are.

    Trajectories are used as evenly as possible."""

    options: NormalOptions

    def select(self, grid: TrajectoryGrid, n: int, rng: Generator) -> Selection:
        """n pairs in random order; a pair repeats only if a step was drawn more often than there are trajectories.

        Raises `UserError` if n exceeds the number of pairs.
        """
        require_pairs("normal", grid, n)
        draws = torch.randn(n, generator=rng, dtype=torch.float64) * self.options.std + self.options.mean
        k = (draws * grid.steps).trunc().clamp(0, grid.steps - 1).to(torch.int64)
        dealt = deal(k.sort().values, grid.trajectories, rng)
        if self.options.compat:
            # The released code counts the state's steps from the noisy end, and feeds the network k all the same.
            return Selection(dealt.trajectory, step=dealt.step + 1, t=dealt.step)
        return Selection(dealt.trajectory, step=grid.steps - 1 - dealt.step)
