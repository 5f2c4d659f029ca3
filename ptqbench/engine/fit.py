"""What a reconstruction gets to fit one unit: the problem, the weighted loss, the quantizers' penalties."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ptqbench.engine.inner import UnitProblem
from ptqbench.engine.losses import total
from ptqbench.errors import CellFailedError
from ptqbench.roles.reconstruction import Phase
from ptqbench.roles.weighter import Batch, SampleWeighter


@dataclass
class FitContext:
    """One unit in one phase. `rng` orders the mini-batches; the weighter draws from `weighter_rng`, a stream of its own."""

    unit: str
    phase: Phase
    problem: UnitProblem
    weighter: SampleWeighter
    rng: Generator
    weighter_rng: Generator

    def start(
        self, rates: Mapping[str, float], power: float, *, input_keep: float = 1.0, activation_keep: float = 1.0
    ) -> dict[str, list[Tensor]]:
        """Set the loss exponent and the learning rate of each kind of trainable; returns the trainables by kind.

        `input_keep` is the probability that an element of the unit's input is the quantized network's rather than full
        precision's (in a phase with mixed inputs), `activation_keep` that an activation inside the unit is quantized.
        """
        problem = self.problem
        problem.power = power
        problem.input_keep, problem.activation_keep = input_keep, activation_keep
        problem.learning_rate = {name: rates[kind] for name, kind in problem.kinds.items()}
        self.weighter.begin_unit(self.unit, self.phase.name, problem, self.weighter_rng)
        return {kind: [problem.params[n] for n, k in problem.kinds.items() if k == kind] for kind in rates}

    def weighted_loss(self, batch: Batch) -> Tensor:
        """mean_i(w_i * loss_i) with the weights rescaled to mean 1: equal weights give the unweighted loss, bit for bit.

        Raises `CellFailedError` if the weighter returns anything but B finite weights >= 0 that are not all zero.
        """
        weights = self._weights(batch)
        factors = self.weighter.part_weights(batch, self.problem)
        return (weights * total(self.problem.loss_parts(batch), factors)).mean()

    def _weights(self, batch: Batch) -> Tensor:
        weights = self.weighter.weights(batch, self.problem)
        if not isinstance(weights, Tensor):
            raise CellFailedError(f"the weighter returned {type(weights).__name__}, expected a tensor ({len(batch)},)")
        weights = weights.detach()
        if weights.shape != (len(batch),):
            raise CellFailedError(f"the weighter returned shape {tuple(weights.shape)}, expected ({len(batch)},)")
        if not bool(torch.isfinite(weights).all()) or float(weights.min()) < 0 or float(weights.sum()) == 0:
            raise CellFailedError("the weighter returned weights that are negative, not finite, or all zero")
        # The mean of equal weights is rounded; that of ones is not.
        weights = weights / weights.max()
        return weights / weights.mean()

    def penalty(self, progress: float) -> Tensor | None:
        """Sum of the regularisers of all learning quantizers in the unit; None if none has one at this point."""
        terms = [term for quantizer in self.problem.learning if (term := quantizer.penalty(progress)) is not None]
        return torch.stack(terms).sum() if terms else None
