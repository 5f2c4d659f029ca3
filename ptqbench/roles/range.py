"""Range estimators: from observed values to the first scale and zero point of a uniform grid."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from ptqbench.plugin.component import Options
from ptqbench.quant.grid import Levels


class RangeEstimator(ABC):
    """Built as `Class(options, levels=...)`, one instance for each slot (one for each step group of a quantizer)."""

    def __init__(self, options: Options, *, levels: Levels) -> None:
        self.options = options
        self.levels = levels

    @abstractmethod
    def observe(self, values: Tensor) -> None:
        """Take one batch of values (G, n): G rows that get a scale each (1 per tensor, C per channel)."""

    @abstractmethod
    def grid(self) -> tuple[Tensor, Tensor]:
        """Scale (G,) > 0 and zero point (G,), both float and the zero point integral. Needs one `observe` before."""
