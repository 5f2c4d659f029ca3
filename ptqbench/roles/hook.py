"""Sampler hooks: corrections of the noise prediction and of the sampler's noise, fitted after quantization."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from ptqbench.roles.base import WithOptions
from ptqbench.roles.solver import StepNoise


@dataclass(frozen=True)
class PredictionPairs:
    """Noise predictions on the same states of `trajectories` full-precision trajectories, one sampling step at a time.

    Of a guided model these are the combined ones, as the sampler uses them.

    `at(s)` gives (full precision, quantized), each (trajectories, C, H, W) float32 on the CPU, for step s in [0, steps).
    Every call runs both networks, and counts in the method's budget.
    """

    steps: int
    trajectories: int
    at: Callable[[int], tuple[Tensor, Tensor]]


class SamplerHook(WithOptions, ABC):
    """Built as `Class(options)`; then either `fit`, or `restore` and after it the two corrections.

    One instance is fitted and another one restored from what the first returned, also in a fresh run. A method may have
    several hooks; each is fitted on predictions that the ones before it have corrected.
    """

    trajectories = 64
    """Full-precision trajectories that `fit` wants (at most as many as the recipe has)."""

    @abstractmethod
    def fit(self, pairs: PredictionPairs) -> Mapping[str, Tensor]:
        """Learn from paired predictions; the tensors are stored, and are all that `restore` gets."""

    @abstractmethod
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take what `fit` returned."""

    def prediction(self, step: Tensor, eps: Tensor) -> Tensor:
        """The corrected noise prediction (B, C, H, W); `step` (B,), on its device, says which sampling step each row is at."""
        return eps

    def noise(self, step: int, planned: StepNoise) -> StepNoise:
        """The noise of a sampling step in place of what the schedule, or the hook before this one, has planned."""
        return planned
