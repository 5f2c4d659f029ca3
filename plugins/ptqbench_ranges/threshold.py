"""The range estimator `threshold`: the best symmetric threshold of each update's samples, averaged over updates."""

from __future__ import annotations

import torch
from torch import Tensor

from ptqbench.quant.grid import Levels
from ptqbench.roles.range import RangeEstimator
from ptqbench_ranges import ThresholdOptions
from ptqbench_ranges.extrema import Extrema, joint
from ptqbench_ranges.scoring import Thinned, best_grid


class Threshold(RangeEstimator):
    """Ranges [-m, m] with m = k / K * max|x|, k = 1 .. K; the smallest mean |x - q(x)|^power wins, the first on a tie.

    Where the first update has one sign in all rows, ranges are [0, m] or [-m, 0] from then on; so they are at sites that have
    no values below zero. The values of each `update` samples are searched by themselves, and
    m <- momentum * m + (1 - momentum) * m_update (the search of released PTQ4DM and EDA-DM).
    """

    options: ThresholdOptions

    def __init__(self, options: ThresholdOptions, *, levels: Levels) -> None:
        super().__init__(options, levels=levels)
        self._sides: tuple[bool, bool] | None = None
        self._threshold: Tensor | None = None
        self._begin()

    def _begin(self) -> None:
        self._range: Extrema | None = None
        self._values = Thinned(self.options.max_values)

    @property
    def update(self) -> int:
        return self.options.update

    def observe(self, values: Tensor) -> None:
        """Take values (G, n) of the update that is under way."""
        self._range = joint(self._range, values)
        self._values.add(values, self.period)

    @torch.no_grad()
    def end_update(self) -> None:
        """Search the update's values and take the threshold into the average."""
        if self._range is None:
            return
        lo, hi = self._range
        if self._sides is None:
            positive = self.levels.nonnegative or float(lo.min()) >= 0
            self._sides = not positive, positive or float(hi.max()) > 0
        found = self._best(self._values.values(), torch.maximum(lo.abs(), hi.abs()))
        if self._threshold is not None:
            keep = self.options.momentum
            found = keep * self._threshold + (1 - keep) * found
        self._threshold = found
        self._begin()

    def grid(self) -> tuple[Tensor, Tensor]:
        """Scale and zero point (G,). Raises `ValueError` if nothing was observed."""
        self.end_update()
        if self._threshold is None:
            raise ValueError("a range was asked for before any value was observed")
        return self._grid_of(self._threshold)

    def _best(self, x: Tensor, largest: Tensor) -> Tensor:
        """The threshold (G,) with the smallest error on values (G, n) whose largest magnitudes are `largest` (G,)."""
        count = self.options.candidates
        thresholds = largest[:, None] * torch.arange(1, count + 1, dtype=largest.dtype, device=largest.device) / count
        scale, zero_point = self._grid_of(thresholds)
        best = best_grid(x, scale, zero_point, self.levels, self.options.power)
        return thresholds.gather(1, best).squeeze(1)

    def _grid_of(self, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and zero point of thresholds of any shape."""
        below, above = self._sides or (True, True)
        scale, zero_point = self.levels.from_range(-threshold * below, threshold * above)
        if below and above and not self.levels.symmetric:
            # (levels - 1) / 2 lies halfway between two codes: rounding to even decides, not the last bit of a quotient.
            zero_point = torch.full_like(zero_point, (self.levels.high + 1) // 2)
        return scale, zero_point
