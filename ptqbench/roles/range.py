"""Range estimators: from observed values to the first scale and zero point of a uniform grid."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from ptqbench.plugin.component import Options
from ptqbench.quant.grid import Levels


class RangeEstimator(ABC):
    """Built as `Class(options, levels=...)`, one instance for each slot (one for each step group of a quantizer).

    An estimator that averages over updates says in `update` how many samples make one. It then sees any number of batches for
    each, none of them across two updates, and `end_update` after the last: how many samples the network runs at once must not
    decide a method's ranges.
    """

    period = 1
    """After so many values of a row the same place of what is observed comes again: a channel of the next token, a column of
    the next line, a tap of the next kernel. Who looks at every k-th value must not meet the same few of them each time."""

    def __init__(self, options: Options, *, levels: Levels) -> None:
        self.options = options
        self.levels = levels

    @property
    def update(self) -> int | None:
        """How many samples make one update; None where the result does not depend on how values come in batches."""
        return None

    @abstractmethod
    def observe(self, values: Tensor) -> None:
        """Take one batch of values (G, n): G rows that get a scale each (1 per tensor, C per channel).

        Weights come as one batch.
        """

    def end_update(self) -> None:  # noqa: B027
        """`update` samples are complete. The last update may have fewer, and then `grid` ends it."""

    @abstractmethod
    def grid(self) -> tuple[Tensor, Tensor]:
        """Scale (G,) > 0 and zero point (G,), both float and the zero point integral. Needs one `observe` before."""
