"""The optimiser's loop on one unit: mini-batches, weights, penalties, learning rates. Every reconstruction shares it."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Generator, Tensor

from ptqbench.errors import CellFailedError
from ptqbench.fitting.adam import Adam
from ptqbench.fitting.inner import UnitProblem
from ptqbench.fitting.losses import total
from ptqbench.roles.reconstruction import Course, Phase
from ptqbench.roles.weighter import Batch, SampleWeighter


@dataclass
class UnitFit:
    """One unit in one phase. `rng` orders the mini-batches; the weighter draws from `weighter_rng`, a stream of its own."""

    unit: str
    phase: Phase
    course: Course
    problem: UnitProblem
    weighter: SampleWeighter
    rng: Generator
    weighter_rng: Generator

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
        problem.power, problem.iterations = course.power, course.iterations
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
        of_kind = {kind: Adam([params[name] for name in kinds if kinds[name] == kind]) for kind in self.course.rates}
        moving = [param for optimiser in of_kind.values() for param in optimiser.params]
        iterations = self.course.iterations
        for i in range(iterations):
            progress = i / iterations
            rates = self.at(progress)
            loss = self.weighted_loss(self.mini_batch())
            penalty = self.penalty(progress)
            loss = loss if penalty is None else loss + penalty
            slopes = iter(torch.autograd.grad(loss, moving, allow_unused=True))
            for kind, optimiser in of_kind.items():
                optimiser.step([next(slopes) for _ in optimiser.params], rates[kind])
            yield (i + 1) / iterations

    def mini_batch(self) -> Batch:
        """See `Fit.mini_batch`."""
        return self.problem.draw(self.course.batch, among=self.weighter.pool(self.problem), rng=self.rng)

    def weighted_loss(self, batch: Batch) -> Tensor:
        """mean_i(w_i * loss_i) with the weights rescaled to mean 1: equal weights give the unweighted loss, bit for bit."""
        weights = self.weighter.weights(batch, self.problem)
        factors = self.weighter.part_weights(batch, self.problem)
        # The mean of equal weights is rounded; that of ones is not.
        weights = weights / weights.max()
        weights = weights / weights.mean()
        losses = total(self.problem.loss_parts(batch), factors)
        self.weighter.saw(batch, losses.detach())
        return (weights * losses).mean()

    def penalty(self, progress: float) -> Tensor | None:
        """Sum of the regularisers of all learning quantizers in the unit; None if none has one at this point."""
        terms = [term for quantizer in self.problem.learning if (term := quantizer.penalty(progress)) is not None]
        return reduce(operator.add, terms) if terms else None
