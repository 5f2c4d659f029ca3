"""The calibration sampler `density-diversity`."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from ptqbench.errors import UserError
from ptqbench.roles.sampler import CalibrationSampler, Selection, TrajectoryGrid, deal, require_pairs
from ptqbench_edadm import DensityDiversityOptions
from ptqbench_edadm.allocation import allocate, capped
from ptqbench_edadm.density import density, diversity, normalised, pairwise


class DensityDiversitySampler(CalibrationSampler):
    """Steps in proportion to normalised density + weight * normalised diversity of their features (EDA-DM's TDAC).

    Each trajectory gives one sample while there are enough of them; otherwise trajectories are reused as evenly as
    possible, no pair twice.
    """

    options: DensityDiversityOptions

    def select(self, grid: TrajectoryGrid, n: int, rng: Generator) -> Selection:
        """n distinct pairs in random order. Raises `UserError` if there are fewer, or if no module of `tap` is called."""
        require_pairs("density-diversity", grid, n)
        counts = capped(allocate(self.step_weights(grid), n), grid.trajectories)
        return deal(torch.arange(grid.steps).repeat_interleave(counts), grid.trajectories, rng)

    def step_weights(self, grid: TrajectoryGrid) -> Tensor:
        """What each step's number of samples is proportional to: (S,) float64."""
        if grid.features is None:
            raise UserError("the sampler density-diversity needs the denoiser's features", "use another sampler")
        features = grid.features(self._tap(grid), min(self.options.probe, grid.trajectories))
        distance, angle = (found.cpu() for found in pairwise(features))
        dense = density(distance, self._radius(distance))
        return normalised(dense) + self.options.weight * normalised(diversity(angle))

    def _tap(self, grid: TrajectoryGrid) -> str:
        for name in self.options.tap:
            if name in grid.modules:
                return name
        raise UserError(
            f"the sampler density-diversity found none of the modules {', '.join(self.options.tap)} in the denoiser",
            "name its middle attention block in the option `tap`",
        )

    def _radius(self, distance: Tensor) -> float:
        """The radius of a neighbourhood. Raises `UserError` if a given one makes all steps neighbours, or none."""
        upper = torch.ones_like(distance, dtype=torch.bool).triu(1)
        between, radius = distance[upper], self.options.radius
        if not len(between):
            return 0.0
        if radius == 0:
            return float(between.quantile(self.options.radius_quantile))
        nearest, farthest = float(between.min()), float(between.max())
        if not nearest <= radius < farthest:
            raise UserError(
                f"the radius {radius:g} of the sampler density-diversity tells no steps apart: the features of two steps are "
                f"between {nearest:.3g} and {farthest:.3g} apart",
                "set `radius` between these, or to 0 for a quantile of the distances",
            )
        return radius
