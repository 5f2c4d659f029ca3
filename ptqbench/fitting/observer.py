"""Looking on while units are fitted, without touching the fit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ptqbench.fitting.inner import UnitProblem
from ptqbench.roles.weighter import SampleWeighter


class Observer(ABC):
    """Sees each unit of each phase from the first iteration to the last, before it is hardened.

    It must change nothing that the fit reads: trainables and their `.grad`, the problem's settings, random streams.
    """

    @property
    @abstractmethod
    def key(self) -> Mapping[str, Any]:
        """What identifies this observer in a cache key, for its findings are kept with the phase's result."""

    @abstractmethod
    def begin(self, problem: UnitProblem) -> None:
        """A unit is about to be fitted. The reconstruction has not set the problem's exponent and rates yet."""

    @abstractmethod
    def see(self, progress: float) -> None:
        """An iteration is over; `progress` in (0, 1] is what the reconstruction says."""

    @abstractmethod
    def end(self, weighter: SampleWeighter) -> Mapping[str, Tensor]:
        """The last iteration is over, nothing is hardened yet. Returns what was found, as named tensors to keep."""
