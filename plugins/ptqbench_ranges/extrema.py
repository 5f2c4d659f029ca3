"""The range estimators `minmax` and `ema`."""

from __future__ import annotations

import torch
from torch import Tensor

from ptqbench.quant.grid import Levels
from ptqbench.roles.range import RangeEstimator
from ptqbench_ranges import EmaOptions, MinMaxOptions


class MinMax(RangeEstimator):
    """Extrema over everything observed."""

    options: MinMaxOptions

    def __init__(self, options: MinMaxOptions, *, levels: Levels) -> None:
        super().__init__(options, levels=levels)
        self._range: tuple[Tensor, Tensor] | None = None

    def observe(self, values: Tensor) -> None:
        """Take one batch of values (G, n)."""
        lo, hi = values.aminmax(dim=1)
        if self._range is not None:
            lo, hi = torch.minimum(self._range[0], lo), torch.maximum(self._range[1], hi)
        self._range = (lo, hi)

    def grid(self) -> tuple[Tensor, Tensor]:
        """Scale and zero point (G,). Raises `ValueError` if nothing was observed."""
        lo, hi = _seen(self._range)
        if self.options.compat and not self.levels.symmetric:
            scale, _ = self.levels.from_range(lo, hi, include_zero=False)
            return scale, torch.round(-lo.clamp_max(0) / scale)
        return self.levels.from_range(lo, hi)


class MovingAverage(RangeEstimator):
    """lo <- m lo + (1 - m) lo_batch, and hi alike; the first batch starts the average."""

    options: EmaOptions

    def __init__(self, options: EmaOptions, *, levels: Levels) -> None:
        super().__init__(options, levels=levels)
        self._range: tuple[Tensor, Tensor] | None = None

    def observe(self, values: Tensor) -> None:
        """Take one batch of values (G, n)."""
        lo, hi = values.aminmax(dim=1)
        if self._range is not None:
            keep = self.options.momentum
            lo = keep * self._range[0] + (1 - keep) * lo
            hi = keep * self._range[1] + (1 - keep) * hi
        self._range = (lo, hi)

    def grid(self) -> tuple[Tensor, Tensor]:
        """Scale and zero point (G,). Raises `ValueError` if nothing was observed."""
        return self.levels.from_range(*_seen(self._range), include_zero=self.options.include_zero)


def _seen(extrema: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
    if extrema is None:
        raise ValueError("a range was asked for before any value was observed")
    return extrema
