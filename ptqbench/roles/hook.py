"""Sampler hooks: corrections of the noise prediction and of the sampler's noise, fitted after quantization."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from ptqbench.component import Options


@dataclass(frozen=True)
class PredictionPairs:
    """Noise predictions on the same states of `trajectories` full-precision trajectories, one sampling step at a time.

    `at(s)` gives (full precision, quantized), each (trajectories, C, H, W) on the CPU, for step s in [0, steps).
    """

    steps: int
    trajectories: int
    at: Callable[[int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class StepNoise:
    """What the sampler does at one step: cumulative alphas before and after it, and the deviation of its fresh noise."""

    alpha: float
    alpha_next: float
    sigma: float


class SamplerHook(ABC):
    """Built as `Class(options)`; then either `fit` or `restore`, and after that the two corrections.

    A method may have several hooks; each is fitted on predictions that the ones before it have corrected.
    """

    trajectories = 64
    """Full-precision trajectories that `fit` wants (at most as many as the recipe has)."""

    def __init__(self, options: Options) -> None:
        self.options = options

    @abstractmethod
    def fit(self, pairs: PredictionPairs) -> Mapping[str, Tensor]:
        """Learn from paired predictions; the tensors are stored, and are all that `restore` gets."""

    @abstractmethod
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take what `fit` returned."""

    def prediction(self, step: Tensor, eps: Tensor) -> Tensor:
        """The corrected noise prediction (B, C, H, W); `step` (B,) says which sampling step each row is at."""
        return eps

    def sigma(self, step: int, noise: StepNoise) -> float:
        """The deviation of the fresh noise at a step, in place of `noise.sigma`."""
        return noise.sigma
