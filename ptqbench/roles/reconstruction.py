"""Reconstructions: how is a unit fitted to its full-precision outputs?"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Generator, Tensor

from ptqbench.roles.base import WithOptions
from ptqbench.roles.weighter import Batch, InnerProblem


@dataclass(frozen=True)
class Phase:
    """One pass over all units. `learns` names the kinds of trainables (`ptqbench.roles.quantizer.ParamGroup`); `activations`
    says whether activations are quantized.

    `inputs` says what a unit sees while it is fitted: "quantized", the output of the network quantized so far (AdaRound's
    asymmetric reconstruction), "full-precision", or "mixed", elements of either drawn at random (QDrop); how often, the
    phase's `Course` says.
    """

    name: str
    learns: frozenset[str]
    activations: bool
    inputs: Literal["quantized", "full-precision", "mixed"]


@dataclass(frozen=True)
class Rate:
    """A learning rate, and how it goes on: the same in each iteration, or half a cosine down to zero."""

    start: float
    schedule: Literal["constant", "cosine"] = "constant"

    def at(self, progress: float) -> float:
        """The rate at `progress` in [0, 1)."""
        if self.schedule == "constant":
            return self.start
        return self.start * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class Course:
    """How the units of one phase are fitted: `iterations` steps of Adam on mini-batches of `batch` samples.

    `rates` has a learning rate for each kind of trainable that the phase learns; `power` is the exponent of the loss.
    `input_keep` is the probability that an element of a unit's input is the quantized network's rather than full precision's
    (in a phase with mixed inputs), `activation_keep` that an activation inside the unit is quantized.
    """

    iterations: int
    batch: int
    rates: Mapping[str, Rate]
    power: float = 2.0
    input_keep: float = 1.0
    activation_keep: float = 1.0


class Fit(Protocol):
    """A unit that is about to be fitted, its problem and weighter set up for the phase's course."""

    phase: Phase
    course: Course
    rng: Generator

    @property
    def problem(self) -> InnerProblem: ...

    def at(self, progress: float) -> dict[str, float]:
        """Tell the weighter the learning rates at `progress`, and return them by kind."""
        ...

    def mini_batch(self) -> Batch:
        """The next mini-batch, of the course's size, from the samples that the weighter lets in."""
        ...

    def weighted_loss(self, batch: Batch) -> Tensor:
        """The loss of a mini-batch, its samples weighed by the method's weighter."""
        ...

    def penalty(self, progress: float) -> Tensor | None:
        """The quantizers' regularisers at `progress`; None where there are none."""
        ...

    def run(self) -> Iterator[float]:
        """The loop that every reconstruction shares; yields progress in (0, 1] after each iteration."""
        ...


class Reconstruction(WithOptions, ABC):
    """Built as `Class(options)`, one instance per cell.

    `phases` is empty for rounding to nearest.
    """

    phases: tuple[Phase, ...] = ()

    @abstractmethod
    def course(self, phase: Phase) -> Course:
        """The constants of a phase, which forecasts and fairness checks read as well."""

    def fit(self, unit: Fit) -> Iterator[float]:
        """Optimise the unit; yield progress in (0, 1] after each iteration. Hardening is the engine's.

        Only what is no descent by Adam on weighted mini-batches needs a loop of its own.
        """
        return unit.run()
