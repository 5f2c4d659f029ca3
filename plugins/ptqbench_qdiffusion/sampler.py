"""The calibration sampler `stride`."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from ptqbench.errors import UserError
from ptqbench.roles.sampler import CalibrationSampler, Selection, TrajectoryGrid
from ptqbench_qdiffusion import StrideOptions


class StrideSampler(CalibrationSampler):
    """n samples spread equally over evenly spaced steps from the first to the last, at most n of them; a remainder goes to the
    earliest.

    At each step the trajectories are drawn at random without replacement, and the selection is shuffled.
    """

    options: StrideOptions

    def select(self, grid: TrajectoryGrid, n: int, rng: Generator) -> Selection:
        """n distinct pairs. Raises `UserError` if there are too few steps or trajectories."""
        steps = self._steps(grid.steps, n)
        share, rest = divmod(n, len(steps))
        counts = torch.full((len(steps),), share)
        counts[:rest] += 1
        if int(counts[0]) > grid.trajectories:
            raise UserError(
                f"the sampler stride needs {int(counts[0])} trajectories for {n} samples at {len(steps)} steps; "
                f"there are {grid.trajectories}",
                "record more trajectories, raise `points`, or lower the number of calibration samples",
            )
        step = steps.repeat_interleave(counts)
        if self.options.compat:
            return Selection(trajectory=torch.cat([torch.arange(int(c)) for c in counts]), step=step)
        drawn = [torch.randperm(grid.trajectories, generator=rng)[: int(c)] for c in counts]
        order = torch.randperm(n, generator=rng)
        return Selection(trajectory=torch.cat(drawn)[order], step=step[order])

    def _steps(self, total: int, n: int) -> Tensor:
        """The chosen steps, ascending int64: both ends and what lies evenly between; the last one if one is asked for.

        With fewer samples than points there are as many steps as samples.
        """
        points = total if self.options.points == "all" else self.options.points
        if points > total:
            message = f"the sampler stride cannot take {points} of {total} steps"
            raise UserError(message, f"set `points` to {total} or less")
        if self.options.compat:
            return torch.arange(0, total, total // points)
        points = min(points, n)
        if points == 1:
            return torch.tensor([total - 1])
        # Rounded in whole numbers: halves go up on every machine.
        return (2 * torch.arange(points) * (total - 1) + points - 1) // (2 * (points - 1))
