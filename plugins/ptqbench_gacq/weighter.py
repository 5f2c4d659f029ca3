"""The GACQ weighter: a score for each calibration sample, learned by look-ahead steps of the unit that is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Generator, Tensor
from torch.utils._pytree import tree_leaves

from ptqbench.fitting.scores import ScoreAdam
from ptqbench.roles.weighter import Batch, InnerProblem, Requirements, SampleWeighter
from ptqbench_gacq import GacqOptions
from ptqbench_gacq.meta import Part
from ptqbench_gacq.objective import SAMPLE, Objective, Update

PIECE = 32 * 2**20
"""Bytes of a unit's inputs and outputs whose graph is kept at a time while all weights learn at once."""

UNTIL = 0.5
"""Share of a unit's fit in which scores learn: what they say later finds most roundings decided."""

COST = {"fitting": 1.3, "before": 1.3, "each": 14.0}
"""How long a fit takes by schedule, relative to equal weights (units of the digits model, 480 mini-batches of 8)."""


class GacqWeighter(SampleWeighter):
    """Bilevel sample weighting (arXiv:2602.01289): scores start equal for every unit, descend the meta loss, and weigh samples
    through a softmax. When they do is the schedule: while the unit is fitted, before it is, or for each mini-batch anew."""

    options: GacqOptions

    def __init__(self, options: GacqOptions) -> None:
        super().__init__(options)
        self.requires = Requirements(validation=options.validation, groups=options.groups)
        self.cost = COST[options.schedule] if options.score_rate else 1.0

    def begin_unit(self, unit: str, phase: str, problem: InnerProblem, rng: Generator) -> None:
        """Fresh scores: what a unit's samples are worth says little about the next unit's."""
        o, self.steps, self.rng = self.options, problem.train_steps, rng
        # Where the losses are; the steps stay on the CPU with the calibration set.
        self.scores = torch.zeros(len(self.steps), device=next(iter(problem.params.values())).device)
        self.optimiser = ScoreAdam(self.scores, o.score_rate)
        self.objective = Objective(o, problem, rng)
        self.calls, self.learned = 0, 0
        self.given, self.met = torch.zeros_like(self.scores), torch.zeros_like(self.scores)
        if o.schedule == "before" and o.score_rate:
            for _ in range(o.updates):
                self._learn_some(problem, len(self.scores))

    def weights(self, batch: Batch, problem: InnerProblem) -> Tensor:
        """Softmax of the batch's scores over the temperature, rescaled to mean 1: (B,)."""
        if self._due(problem):
            self.learned += 1
            if self.options.schedule == "each" or self.options.scope == "batch":
                self._learn_batch(batch, problem)
            else:
                self._learn_some(problem, max(len(batch), round(len(batch) * self._between(problem))))
        self.calls += 1
        index = batch.index.to(self.scores.device)
        weights = len(batch) * torch.softmax(self.scores[index] / self.options.temperature, dim=0)
        self.given[index] += weights
        self.met[index] += 1
        return weights

    def _due(self, problem: InnerProblem) -> bool:
        """Whether scores learn at this mini-batch."""
        o = self.options
        if o.score_rate == 0 or o.schedule == "before":
            return False
        if o.schedule == "each":
            return True
        if o.every:
            return self.calls % o.every == 0
        return self.learned < o.updates and self.calls >= round((self.learned + 1) * self._between(problem))

    def _between(self, problem: InnerProblem) -> float:
        """Mini-batches from one update to the next."""
        return self.options.every or UNTIL * problem.iterations / self.options.updates

    def _learn_some(self, problem: InnerProblem, count: int) -> None:
        """One step of the scores of so many training samples, drawn at random, from a look-ahead down their loss."""
        size = max(1, PIECE // max(1, _bytes(problem.take(torch.arange(1)))))
        samples = torch.randperm(len(self.scores), generator=self.rng)[:count]
        places, part = torch.arange(len(samples)), partial(self.objective.part, samples)
        scores = self.scores[samples.to(self.scores.device)]
        slope = self.objective.slope(
            [part(piece) for piece in places.split(size)], self.objective.sample(samples, places[:SAMPLE]), scores
        )
        if slope is not None:
            self.optimiser.step(samples, slope)

    def _learn_batch(self, batch: Batch, problem: InnerProblem) -> None:
        """One step of the scores of a mini-batch's samples, which start equal once more if weights are forgotten."""
        index = batch.index.to(self.scores.device)
        if self.options.schedule == "each":
            self.scores[index] = 0
            self.optimiser = ScoreAdam(self.scores, self.options.score_rate)
        own = Part(torch.arange(len(batch)), lambda params: problem.losses(batch, params))
        slope = self.objective.slope([own], self.objective.sample(batch.index.cpu(), own.index, batch.seed), self.scores[index])
        if slope is not None:
            self.optimiser.step(index, slope)

    def report(self) -> Mapping[str, Tensor]:
        """ "weights" (N,) with mean 1, "step" (N,), "touches" (N,): how often a sample's weight learned; and the fields of
        `Update`, (K,) for K updates.

        Weights that are forgotten are reported as the mean of those that a sample was given.
        """
        if self.options.schedule == "each":
            weights = torch.where(self.met > 0, self.given / self.met.clamp_min(1), 1.0)
            weights = weights / weights.mean()
            touches = self.met if self.options.score_rate else torch.zeros_like(self.met)
        else:
            weights = len(self.scores) * torch.softmax(self.scores / self.options.temperature, dim=0)
            touches = self.optimiser.touched
        updates = self.objective.updates
        curves = {name: torch.tensor([getattr(u, name) for u in updates]) for name in Update.__dataclass_fields__}
        return {"weights": weights, "step": self.steps, "touches": touches, **curves}


def _bytes(batch: Batch) -> int:
    """What a batch's inputs and targets take."""
    return sum(x.nbytes for x in tree_leaves([batch.args, batch.kwargs, batch.target]) if isinstance(x, Tensor))
