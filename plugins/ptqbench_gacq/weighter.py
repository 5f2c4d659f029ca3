"""The GACQ weighter: scores per calibration sample, learned by look-ahead steps while a unit is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Generator, Tensor

from ptqbench.fitting.scores import ScoreAdam
from ptqbench.roles.weighter import Batch, InnerProblem, Requirements, SampleWeighter
from ptqbench_gacq import GacqOptions
from ptqbench_gacq.meta import Groups, Losses, meta_gradient

LOOKAHEAD_COST, GROUP_COST = 2.4, 1.6
"""A score update takes about as long as this many optimiser steps, and as many more for each group that is matched
(measured on the residual blocks of the digits model)."""


class GacqWeighter(SampleWeighter):
    """Bilevel sample weighting (arXiv:2602.01289): scores start equal for every unit, follow the meta-gradient
    with Adam while the unit's trainables move, and weigh each mini-batch through a softmax."""

    options: GacqOptions

    def __init__(self, options: GacqOptions) -> None:
        super().__init__(options)
        self.requires = Requirements(validation=options.validation, groups=options.groups)
        matched = (min(options.matching_groups, options.groups) or options.groups) if options.matching else 0
        update = LOOKAHEAD_COST + GROUP_COST * matched if options.score_rate else 0.0
        self.cost = 1 + update / options.every

    def begin_unit(self, unit: str, phase: str, problem: InnerProblem, rng: Generator) -> None:
        """Fresh scores: what a unit's samples are worth says little about the next unit's."""
        steps = problem.train_steps
        # Where the losses are; the steps stay on the CPU with the calibration set.
        self.scores = torch.zeros(len(steps), device=next(iter(problem.params.values())).device)
        self.optimiser = ScoreAdam(self.scores, self.options.score_rate)
        self.steps = steps
        self.rng = rng
        self.calls = 0
        self.terms: list[tuple[float, float]] = []

    def weights(self, batch: Batch, problem: InnerProblem) -> Tensor:
        """Softmax of the batch's scores over the temperature, rescaled to mean 1: (B,)."""
        if self.options.score_rate and self.calls % self.options.every == 0:
            self._learn(batch, problem)
        self.calls += 1
        return len(batch) * self._softmax(batch)

    def _softmax(self, batch: Batch) -> Tensor:
        """omega (B,), with sum 1."""
        return torch.softmax(self.scores[batch.index] / self.options.temperature, dim=0)

    def _learn(self, batch: Batch, problem: InnerProblem) -> None:
        """One Adam step on the scores of the batch's samples."""
        o = self.options
        weights = self._softmax(batch)
        found = meta_gradient(
            partial(problem.losses, batch),
            self._groups(problem),
            problem.params,
            problem.learning_rate,
            weights,
            factor=o.matching,
            rms=o.lookahead == "rms",
        )
        if found is None:
            return
        self.terms.append((found.validation, found.matching))
        # d omega_i / d s_j of omega = softmax(s / temperature).
        slope = weights / o.temperature * (found.by_weight - weights @ found.by_weight)
        self.optimiser.step(batch.index, slope)

    def _groups(self, problem: InnerProblem) -> Groups:
        """All validation samples by timestep group, the matched groups drawn at random."""
        o, everything = self.options, len(self.scores)
        order, matched = torch.randperm(o.groups, generator=self.rng).tolist(), o.matching_groups or o.groups
        chosen, rest = order[:matched], order[matched:]

        def losses(groups: list[int]) -> Losses:
            return partial(problem.losses, problem.draw(everything, split="validation", groups=groups, rng=self.rng))

        return Groups([losses([t]) for t in chosen], losses(rest) if rest else None, o.groups)

    def report(self) -> Mapping[str, Tensor]:
        """ "weights" (N,) with mean 1, "step" (N,), "validation" and "matching" (K,): both terms at each score update."""
        weights = len(self.scores) * torch.softmax(self.scores / self.options.temperature, dim=0)
        terms = torch.tensor(self.terms).reshape(-1, 2)
        return {"weights": weights, "step": self.steps, "validation": terms[:, 0], "matching": terms[:, 1]}
