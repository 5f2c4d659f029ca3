"""The direction in which scores climb the meta loss: what validates, what is matched, and how the two terms are combined."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ptqbench.fitting.lookahead import Params, Scalar
from ptqbench.roles.weighter import Batch, InnerProblem
from ptqbench_gacq import GacqOptions
from ptqbench_gacq.meta import Matching, MetaGradient, Part, meta_gradient

PATH = 2000
"""A look-ahead is as long as this part of the way that the optimiser can go in a fit, its rate times its iterations: with the
published constants ten of its steps, in a fast fit of the same way a fraction of one."""

SAMPLE = 32
"""Training samples by whose weights the gradients of timestep groups are taken."""


@dataclass(frozen=True)
class Update:
    """One update of scores: both terms, the lengths of their derivatives by the scores, and the cosine between these."""

    validation: float
    matching: float
    validation_slope: float
    matching_slope: float
    cosine: float


class Objective:
    """The meta loss of one unit. `updates` has what was found each time that its slope was asked for."""

    def __init__(self, options: GacqOptions, problem: InnerProblem, rng: Generator) -> None:
        self.options, self.problem, self.rng = options, problem, rng
        self.samples = len(problem.train_steps)
        self.updates: list[Update] = []

    def slope(self, parts: Sequence[Part], scores: Tensor) -> Tensor | None:
        """The derivative by the scores (B,) of the training samples in `parts`, up to a factor.

        None where the look-ahead stands still.
        """
        o, weights = self.options, torch.softmax(scores / self.options.temperature, dim=0)
        found = meta_gradient(
            parts,
            self._groups(),
            self.problem.params,
            self._lengths(),
            weights,
            matching=self._matching(),
            rms=o.lookahead != "plain",
        )
        return None if found is None else self._combined(found, weights)

    def part(self, index: Tensor) -> Part:
        """Training samples that are taken when their losses are asked for: those of one part are in memory at a time."""
        seed = int(torch.randint(2**62, (1,), generator=self.rng))
        return Part(index, lambda params: self.problem.losses(self.problem.take(index, seed=seed), params))

    def _combined(self, found: MetaGradient, weights: Tensor) -> Tensor:
        """The validation term's slope, and the matching term's at a stated share of its length.

        With a share below 1 the sum never points uphill of the validation error, whatever the terms' own scales are: that of an
        inner product of gradients goes with the square of the look-ahead's length.
        """
        validation, matching = (_through_softmax(by, weights) for by in (found.by_validation, found.by_matching))
        # In single precision the squares of short gradients vanish, and with them the lengths.
        lengths = float(validation.double().norm()), float(matching.double().norm())
        both = lengths[0] * lengths[1]
        cosine = float(validation.double() @ matching.double()) / both if both > 0 else 0.0
        self.updates.append(Update(found.validation, found.matching, *lengths, cosine))
        return validation + self.options.matching * lengths[0] / lengths[1] * matching if both > 0 else validation

    def _lengths(self) -> dict[str, float]:
        """How far the look-ahead moves each trainable, in root mean square; lookahead = plain: its learning rate."""
        part = self.problem.iterations / PATH if self.options.lookahead == "path" else 1.0
        return {name: part * rate for name, rate in self.problem.learning_rate.items()}

    def _matching(self) -> Matching | None:
        o = self.options
        if not o.matching:
            return None
        if o.matching_space == "trainables":
            return Matching(o.matching_measure)
        chosen = torch.randperm(self.samples, generator=self.rng)[:SAMPLE]
        return Matching(o.matching_measure, self.part(chosen))

    def _groups(self) -> list[Scalar]:
        """The mean validation error of each timestep group, or of all together where nothing is matched."""
        o, groups = self.options, list(range(self.options.groups))
        apart = o.matching or o.validation_batch
        return [self._validation(self._drawn([t])) for t in groups] if apart else [self._validation(self._drawn(groups))]

    def _drawn(self, groups: list[int]) -> Batch:
        size = self.options.validation_batch or sys.maxsize
        return self.problem.draw(size, split="validation", groups=groups, rng=self.rng)

    def _validation(self, batch: Batch) -> Scalar:
        problem, o = self.problem, self.options
        if o.validate_on == "unit":
            return lambda params: problem.losses(batch, params).mean()
        gain = problem.gains().square()[batch.step.cpu()].to(batch.target[0]) if o.gain else torch.ones(len(batch))

        def error(params: Params) -> Tensor:
            losses = problem.network_losses(batch, params)
            return (gain.to(losses) * losses).mean()

        return error


def _through_softmax(by_weight: Tensor, weights: Tensor) -> Tensor:
    """The derivative by the scores, up to the temperature as a factor, from that by omega = softmax(scores / temperature)."""
    return weights * (by_weight - weights @ by_weight)
