"""Sample weighters: how much does each calibration sample count while a unit is fitted?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ptqbench.roles.base import WithOptions

UPDATE_TERMS = ("validation", "matching", "regulariser", "validation_slope", "matching_slope", "cosine")
"""What a weighter may report of each update (K,) and a run's record then has: the values of the terms that it descends, the
lengths of their gradients by the scores, and the cosine between the two gradients."""


@dataclass(frozen=True)
class Requirements:
    """What a weighter asks of the engine before calibration starts.

    `validation` is the share of the calibration samples that is held out from training, balanced over `groups` equal
    ranges of sampling steps. The budget that is compared between methods counts both parts.
    """

    validation: float = 0.0
    groups: int = 1


@dataclass(frozen=True)
class Batch:
    """Samples of one unit. `index` (B,) are positions in the training (or validation) split, `step` (B,) sampling steps.

    `args` and `kwargs` are the unit's inputs, `target` its full-precision outputs, one tensor per output. `seed` makes any
    randomness inside the unit (drop masks) a function of the batch, so that losses are deterministic in the trainables.
    `full_inputs` (args, kwargs) and `sensitivity` are there where a phase or a loss term asks for them. `place` (B,) is where
    the samples stand in the calibration set, by which the whole network finds them.
    """

    index: Tensor
    step: Tensor
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    target: tuple[Tensor, ...]
    seed: int
    full_inputs: tuple[tuple[Any, ...], Mapping[str, Any]] | None = None
    sensitivity: tuple[Tensor, ...] = ()
    place: Tensor | None = None

    def __len__(self) -> int:
        return int(self.index.shape[0])


class InnerProblem(Protocol):
    """The unit under reconstruction as a value: trainables, samples, and a pure differentiable loss.

    `params` maps names to the current trainables (rounding variables, scales or both); `learning_rate` is the step size
    that the reconstruction's optimiser uses for each of them in the current iteration, so read it anew each time; a fit has
    `iterations` of them. `timesteps` (S,) are those of the sampling steps.
    """

    @property
    def timesteps(self) -> Tensor: ...

    @property
    def params(self) -> Mapping[str, Tensor]: ...

    @property
    def learning_rate(self) -> Mapping[str, float]: ...

    @property
    def iterations(self) -> int: ...

    @property
    def train_steps(self) -> Tensor:
        """(N,) the sampling step of every training sample."""
        ...

    def draw(self, size: int, *, split: str = "train", groups: Sequence[int] | None = None, rng: torch.Generator) -> Batch:
        """`size` samples without replacement (all, if there are fewer) from "train" or "validation".

        `groups` restricts "validation" to some of its step groups, which all have equally many samples.
        """
        ...

    def take(self, index: Tensor, *, split: str = "train", seed: int = 0) -> Batch:
        """The samples at these positions of "train" or "validation"; equal arguments give equal batches."""
        ...

    def losses(self, batch: Batch, params: Mapping[str, Tensor] | None = None) -> Tensor:
        """Per-sample reconstruction losses (B,), twice differentiable in `params` (the current trainables if None),
        in forward mode too."""
        ...

    def loss_parts(self, batch: Batch, params: Mapping[str, Tensor] | None = None) -> Mapping[str, Tensor]:
        """The same by part of the method's loss terms ("output", "haar.ll", ...): each (B,), their sum is `losses`."""
        ...

    def network_losses(self, batch: Batch, params: Mapping[str, Tensor] | None = None) -> Tensor:
        """Mean squared error (B,) of the network's noise prediction on the batch's samples, twice differentiable in `params`.

        Units before this one are what they were fitted to, those after it in full precision. One evaluation costs as much as
        one of the network.
        """
        ...

    def gains(self) -> Tensor:
        """(S,) the derivative of the sampler's next latent by the noise prediction at each sampling step.

        Raises `CellFailedError` where no sampler is known.
        """
        ...

    def denoising_error(self) -> Tensor:
        """Mean squared error (S,) of the full-precision noise prediction at each sampling step, on its own samples."""
        ...


class SampleWeighter(WithOptions, ABC):
    """Built as `Class(options)`, one instance for each unit and phase, so that an interrupted run may go on at any unit."""

    requires = Requirements()
    cost = 1.0
    """Roughly how many times a uniformly weighted optimiser step takes with this weighter, for forecasts."""

    def begin_unit(self, unit: str, phase: str, problem: InnerProblem, rng: torch.Generator) -> None:
        """A unit's reconstruction starts. `rng` is this weighter's own random stream for this unit."""

    def pool(self, problem: InnerProblem) -> Tensor | None:
        """The training samples (their positions, int64, at least one) that the next mini-batch is drawn from; None for all.

        Asked before each mini-batch.
        """
        return None

    @abstractmethod
    def weights(self, batch: Batch, problem: InnerProblem) -> Tensor:
        """Weights (B,) >= 0, detached. The engine rescales them to mean 1 so that the learning rate keeps its meaning."""

    def part_weights(self, batch: Batch, problem: InnerProblem) -> Mapping[str, Tensor]:
        """Factors (B,) for single parts of the loss (`InnerProblem.loss_parts`), detached; parts not named count once.

        Asked after `weights` for the same batch. They are taken as they are: only the sample weights are rescaled.
        """
        return {}

    def saw(self, batch: Batch, losses: Tensor) -> None:
        """The losses (B,) of the mini-batch that was just weighed, detached, known without another pass: those of its samples,
        whose parts are weighed and which themselves are not."""

    def report(self) -> Mapping[str, Tensor]:
        """What was learned for the unit just finished, for diagnostics; any named tensors.

        "weights" (N,), "touches" (N,), how often a sample's weight learned, and `UPDATE_TERMS` are in the record of a run.
        """
        return {}
