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
    """One unit in one phase. `rng` orders the mini-batches; the weighter draws from `weighter_rng`, a stream of its own.

    `weighter_name` is what the recipe calls the weighter, for messages.
    """

    unit: str
    phase: Phase
    problem: UnitProblem
    weighter: SampleWeighter
    rng: Generator
    weighter_rng: Generator
    weighter_name: str = ""

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
        self.at_rates(rates)
        self.weighter.begin_unit(self.unit, self.phase.name, problem, self.weighter_rng)
        return {kind: [problem.params[n] for n, k in problem.kinds.items() if k == kind] for kind in rates}

    def at_rates(self, rates: Mapping[str, float]) -> None:
        """Tell the problem each kind's learning rate in the iteration that comes, where it changes: weighters that look
        ahead take a step of this size."""
        self.problem.learning_rate = {name: rates[kind] for name, kind in self.problem.kinds.items()}

    def weighted_loss(self, batch: Batch) -> Tensor:
        """mean_i(w_i * loss_i) with the weights rescaled to mean 1: equal weights give the unweighted loss, bit for bit.

        Raises `CellFailedError` if the weighter returns anything but B finite weights >= 0 that are not all zero.
        """
        weights = self._weights(batch)
        factors = self.weighter.part_weights(batch, self.problem)
        return (weights * total(self.problem.loss_parts(batch), factors)).mean()

    def _weights(self, batch: Batch) -> Tensor:
        weights = self.weighter.weights(batch, self.problem)
        size = len(batch)
        if not isinstance(weights, Tensor):
            raise self._refused(f"{type(weights).__name__}, expected a tensor ({size},)")
        weights = weights.detach()
        if weights.shape != (size,):
            raise self._refused(f"shape {tuple(weights.shape)}, expected ({size},)")
        wrong = int((~torch.isfinite(weights)).sum())
        if wrong:
            raise self._refused(
                f"{wrong} of {size} weights that are not finite", "a division by zero, or losses that overflow?"
            )
        if float(weights.min()) < 0:
            raise self._refused(
                f"{int((weights < 0).sum())} of {size} weights below zero, the least {float(weights.min()):.3g}"
            )
        if float(weights.sum()) == 0:
            raise self._refused(f"{size} weights that are all zero", "at least one sample of each mini-batch must count")
        # The mean of equal weights is rounded; that of ones is not.
        weights = weights / weights.max()
        return weights / weights.mean()

    def _refused(self, what: str, remedy: str = "") -> CellFailedError:
        """The error for weights that cannot be used; `what` goes on from "returned"."""
        return CellFailedError(
            f"the weighter {self.weighter_name!r} returned {what} in unit {self.unit!r}, phase {self.phase.name!r}",
            f"{remedy or 'weights are finite numbers >= 0, one for each sample'}: mend its weights()",
        )

    def penalty(self, progress: float) -> Tensor | None:
        """Sum of the regularisers of all learning quantizers in the unit; None if none has one at this point."""
        terms = [term for quantizer in self.problem.learning if (term := quantizer.penalty(progress)) is not None]
        return torch.stack(terms).sum() if terms else None
