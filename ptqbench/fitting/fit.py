"""The optimiser's loop on one unit: mini-batches, weights, penalties, learning rates. Every reconstruction shares it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ptqbench.errors import CellFailedError
from ptqbench.fitting.inner import UnitProblem
from ptqbench.fitting.losses import total
from ptqbench.roles.reconstruction import Course, Phase
from ptqbench.roles.weighter import Batch, SampleWeighter


@dataclass
class UnitFit:
    """One unit in one phase. `rng` orders the mini-batches; the weighter draws from `weighter_rng`, a stream of its own.

    `weighter_name` is what the recipe calls the weighter, for messages.
    """

    unit: str
    phase: Phase
    course: Course
    problem: UnitProblem
    weighter: SampleWeighter
    rng: Generator
    weighter_rng: Generator
    weighter_name: str = ""

    def begin(self) -> None:
        """Set the problem up as the course says, and let the weighter begin.

        Raises `CellFailedError` for trainables of a kind that has no learning rate.
        """
        problem, course = self.problem, self.course
        if unrated := set(problem.kinds.values()) - set(course.rates):
            raise CellFailedError(
                f"phase {self.phase.name!r} learns {', '.join(sorted(unrated))} and gives no learning rate for it",
                "name each kind in the rates of the reconstruction's course()",
            )
        problem.power = course.power
        problem.input_keep, problem.activation_keep = course.input_keep, course.activation_keep
        self.at(0.0)
        self.weighter.begin_unit(self.unit, self.phase.name, problem, self.weighter_rng)

    def at(self, progress: float) -> dict[str, float]:
        """Tell the problem each trainable's learning rate in the iteration that comes, for weighters that look ahead take a
        step of this size; returns the rates by kind."""
        rates = {kind: rate.at(progress) for kind, rate in self.course.rates.items()}
        self.problem.learning_rate = {name: rates[kind] for name, kind in self.problem.kinds.items()}
        return rates

    def run(self) -> Iterator[float]:
        """Adam on all trainables of the unit; the loss is the weighted reconstruction error plus the quantizers' penalties."""
        kinds, params = self.problem.kinds, self.problem.params
        of_kind = {kind: [params[name] for name in kinds if kinds[name] == kind] for kind in self.course.rates}
        of_kind = {kind: found for kind, found in of_kind.items() if found}
        optimiser = torch.optim.Adam([{"params": found, "lr": 0.0} for found in of_kind.values()], fused=True)
        iterations = self.course.iterations
        for i in range(iterations):
            progress = i / iterations
            rates = self.at(progress)
            for kind, group in zip(of_kind, optimiser.param_groups, strict=True):
                group["lr"] = rates[kind]
            loss = self.weighted_loss(self.problem.draw(self.course.batch, rng=self.rng))
            penalty = self.penalty(progress)
            optimiser.zero_grad()
            (loss if penalty is None else loss + penalty).backward()
            optimiser.step()
            yield (i + 1) / iterations

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
        least, most = weights.aminmax()
        # One look in each iteration; what exactly is wrong is found out when something is.
        if not 0 <= float(least) <= float(most) < math.inf or float(most) == 0:
            raise self._unusable(weights)
        # The mean of equal weights is rounded; that of ones is not.
        weights = weights / most
        return weights / weights.mean()

    def _unusable(self, weights: Tensor) -> CellFailedError:
        """Why these weights of a mini-batch cannot be used."""
        size, wrong, below = len(weights), int((~torch.isfinite(weights)).sum()), int((weights < 0).sum())
        if wrong:
            return self._refused(
                f"{wrong} of {size} weights that are not finite", "a division by zero, or losses that overflow?"
            )
        if below:
            return self._refused(f"{below} of {size} weights below zero, the least {float(weights.min()):.3g}")
        return self._refused(f"{size} weights that are all zero", "at least one sample of each mini-batch must count")

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
