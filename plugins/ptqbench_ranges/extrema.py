"""The range estimators `minmax` and `ema`."""

from __future__ import annotations

import torch
from torch import Tensor

from ptqbench.quant.grid import Levels
from ptqbench.roles.range import RangeEstimator
from ptqbench_ranges import EmaOptions, MinMaxOptions

Extrema = tuple[Tensor, Tensor]


class MinMax(RangeEstimator):
    """Extrema over everything observed."""

    options: MinMaxOptions

    def __init__(self, options: MinMaxOptions, *, levels: Levels) -> None:
        super().__init__(options, levels=levels)
        self._range: Extrema | None = None

    def observe(self, values: Tensor) -> None:
        """Take one batch of values (G, n)."""
        self._range = joint(self._range, values)

    def grid(self) -> tuple[Tensor, Tensor]:
        """Scale and zero point (G,). Raises `ValueError` if nothing was observed."""
        lo, hi = _seen(self._range)
        if self.options.compat and not self.levels.symmetric:
            scale, _ = self.levels.from_range(lo, hi, include_zero=False)
            return scale, torch.round(-lo.clamp_max(0) / scale)
        return self.levels.from_range(lo, hi)


class MovingAverage(RangeEstimator):
    """lo <- m lo + (1 - m) lo_update, and hi alike, with the extrema of `update` samples; the first ones start the average."""

    options: EmaOptions

    def __init__(self, options: EmaOptions, *, levels: Levels) -> None:
        super().__init__(options, levels=levels)
        self._range: Extrema | None = None
        self._open: Extrema | None = None

    @property
    def update(self) -> int:
        return self.options.update

    def observe(self, values: Tensor) -> None:
        """Take values (G, n) of the update that is under way."""
        self._open = joint(self._open, values)

    def end_update(self) -> None:
        """Take the update's extrema into the average."""
        self._range, self._open = self._averaged(), None

    def grid(self) -> tuple[Tensor, Tensor]:
        """Scale and zero point (G,). Raises `ValueError` if nothing was observed."""
        return self.levels.from_range(*_seen(self._averaged()), include_zero=self.options.include_zero)

    def _averaged(self) -> Extrema | None:
        """The average, with the update that is under way if it has begun."""
        if self._range is None or self._open is None:
            return self._open or self._range
        keep = self.options.momentum
        lo, hi = (keep * old + (1 - keep) * new for old, new in zip(self._range, self._open, strict=True))
        return lo, hi


def joint(extrema: Extrema | None, values: Tensor) -> Extrema:
    """The extrema (G,), (G,) of what they were taken from and of values (G, n)."""
    lo, hi = values.aminmax(dim=1)
    return (lo, hi) if extrema is None else (torch.minimum(extrema[0], lo), torch.maximum(extrema[1], hi))


def _seen(extrema: Extrema | None) -> Extrema:
    if extrema is None:
        raise ValueError("a range was asked for before any value was observed")
    return extrema
