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

SAMPLE = 16
"""Training samples by whose weights the gradients of timestep groups are taken, and both terms' lengths are held together."""


@dataclass(frozen=True)
class Update:
    """One update of scores: both terms, the lengths of their derivatives by `SAMPLE` scores, and the cosine between these."""

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

    def slope(self, parts: Sequence[Part], sample: Sequence[Part], scores: Tensor) -> Tensor | None:
        """The derivative by the scores (B,) of the training samples in `parts`, up to a factor.

        `sample` are some of them that stand for all. None where the look-ahead stands still.
        """
        o, weights = self.options, torch.softmax(scores / self.options.temperature, dim=0)
        found = meta_gradient(
            parts,
            self._groups(),
            self.problem.params,
            self._lengths(),
            weights,
            matching=self._matching(sample),
            rms=o.lookahead != "plain",
        )
        if found is None:
            return None
        pull = self._combined(found, sample, weights)
        return _through_softmax(found.by_weights(pull), weights)

    def sample(self, samples: Tensor, index: Tensor, seed: int | None = None) -> list[Part]:
        """Those at some places that stand for all, one by one where gradients are matched by their weights."""
        seed = self._seed() if seed is None else seed
        return [self.part(samples, some, seed) for some in index.split(1 if self._matches_by_weights else len(index))]

    def part(self, samples: Tensor, index: Tensor, seed: int | None = None) -> Part:
        """Of these training samples those at some places, taken when their losses are asked for: one part is in memory at a
        time. `seed` makes what is random inside the unit; drawn if it is not given."""
        chosen = samples[index]
        seed = self._seed() if seed is None else seed
        return Part(index, lambda params: self.problem.losses(self.problem.take(chosen, seed=seed), params))

    def _seed(self) -> int:
        return int(torch.randint(2**62, (1,), generator=self.rng))

    def _combined(self, found: MetaGradient, sample: Sequence[Part], weights: Tensor) -> Params:
        """The validation term's gradient, and the matching term's so that by the sample's scores it has a stated share of the
        other's length.

        With a share below 1 the sum does not point uphill of the validation error, whatever the terms' own scales are: that
        of an inner product of gradients goes with the square of the look-ahead's length.
        """
        own = weights[torch.cat([part.index for part in sample]).to(weights.device)]
        own = own / own.sum()
        pulls = [found.by_validation] if found.by_matching is None else [found.by_validation, found.by_matching]
        # In single precision the squares of short gradients vanish, and with them the lengths.
        slopes = [_through_softmax(by_weight, own).double() for by_weight in found.by_some(pulls, sample)]
        validation, matching = float(slopes[0].norm()), float(slopes[-1].norm()) if len(slopes) == 2 else 0.0
        both = validation * matching
        cosine = float(slopes[0] @ slopes[1]) / both if both > 0 else 0.0
        self.updates.append(Update(found.validation, found.matching, validation, matching, cosine))
        if found.by_matching is None or both == 0:
            return found.by_validation
        share = self.options.matching * validation / matching
        return {name: pull + share * found.by_matching[name] for name, pull in found.by_validation.items()}

    def _lengths(self) -> dict[str, float]:
        """How far the look-ahead moves each trainable, in root mean square; lookahead = plain: its learning rate."""
        part = self.problem.iterations / PATH if self.options.lookahead == "path" else 1.0
        return {name: part * rate for name, rate in self.problem.learning_rate.items()}

    def _matching(self, sample: Sequence[Part]) -> Matching | None:
        o = self.options
        if not o.matching:
            return None
        return Matching(o.matching_measure, sample if self._matches_by_weights else None)

    @property
    def _matches_by_weights(self) -> bool:
        return self.options.matching > 0 and self.options.matching_space == "weights"

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
    by_weight = by_weight.to(weights)
    return weights * (by_weight - weights @ by_weight)
