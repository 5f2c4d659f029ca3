"""The range estimator `mse`: both extrema shrunk together until the quantization error is smallest."""

from __future__ import annotations

import torch
from torch import Tensor

from ptqbench.quant.grid import Levels
from ptqbench.roles.range import RangeEstimator
from ptqbench_ranges import MseOptions
from ptqbench_ranges.extrema import Extrema, joint
from ptqbench_ranges.scoring import Thinned, best_grid


class Search(RangeEstimator):
    """Candidates (1 - k shrink) * [lo, hi], k = 0, 1, ...; the smallest mean |x - q(x)|^power wins, the first on a tie.

    The extrema are those of everything observed. The error is measured on at most `max_values` values of each row
    (`Thinned`): on all of a short row, and evenly over all batches of a long one.
    """

    options: MseOptions

    def __init__(self, options: MseOptions, *, levels: Levels) -> None:
        super().__init__(options, levels=levels)
        self._range: Extrema | None = None
        self._values = Thinned(options.max_values)

    def observe(self, values: Tensor) -> None:
        """Take one batch of values (G, n)."""
        self._range = joint(self._range, values)
        self._values.add(values, self.period)

    @torch.no_grad()
    def grid(self) -> tuple[Tensor, Tensor]:
        """Scale and zero point (G,) of the best candidates. Raises `ValueError` if nothing was observed."""
        if self._range is None:
            raise ValueError("a range was asked for before any value was observed")
        lo, hi = (extremum.unsqueeze(1) for extremum in self._range)
        factors = 1 - torch.arange(self.options.candidates, dtype=lo.dtype, device=lo.device) * self.options.shrink
        scale, zero_point = self.levels.from_range(lo * factors, hi * factors, include_zero=self.options.include_zero)
        best = best_grid(self._values.values(), scale, zero_point, self.levels, self.options.power)
        return scale.gather(1, best).squeeze(1), zero_point.gather(1, best).squeeze(1)
