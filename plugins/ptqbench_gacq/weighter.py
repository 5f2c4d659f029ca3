"""The GACQ weighter: scores per calibration sample, learned by look-ahead steps while a unit is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Generator, Tensor

from ptqbench.roles.weighter import Batch, InnerProblem, Requirements, SampleWeighter
from ptqbench_gacq import GacqOptions
from ptqbench_gacq.meta import Losses, meta_gradient

META_STEP_COST = 4.5
"""A score update takes about as long as this many optimiser steps (measured on the residual blocks of the digits model)."""


class GacqWeighter(SampleWeighter):
    """Bilevel sample weighting (arXiv:2602.01289, section 3): scores start equal for every unit, follow the meta-gradient
    with Adam while the unit's trainables move, and weigh each mini-batch through a softmax."""

    options: GacqOptions

    def __init__(self, options: GacqOptions) -> None:
        super().__init__(options)
        self.requires = Requirements(validation=options.validation, groups=options.groups)
        self.cost = 1 + META_STEP_COST / options.every

    def begin_unit(self, unit: str, phase: str, problem: InnerProblem, rng: Generator) -> None:
        """Fresh scores: what a unit's samples are worth says little about the next unit's."""
        steps = problem.train_steps
        # Where the losses are; the steps stay on the CPU with the calibration set.
        self.scores = torch.zeros(len(steps), device=next(iter(problem.params.values())).device)
        self.optimiser = torch.optim.SparseAdam([self.scores], lr=self.options.score_rate)
        self.steps = steps
        self.rng = rng
        self.calls = 0
        self.terms: list[tuple[float, float]] = []

    def weights(self, batch: Batch, problem: InnerProblem) -> Tensor:
        """Softmax of the batch's scores over the temperature, rescaled to mean 1: (B,)."""
        if self.calls % self.options.every == 0:
            self._learn(batch, problem)
        self.calls += 1
        return self._softmax(batch)

    def _softmax(self, batch: Batch) -> Tensor:
        return len(batch) * torch.softmax(self.scores[batch.index] / self.options.temperature, dim=0)

    def _learn(self, batch: Batch, problem: InnerProblem) -> None:
        """One Adam step on the scores of the batch's samples."""
        o = self.options
        everything = len(self.scores)
        order = torch.randperm(o.groups, generator=self.rng).tolist()
        chosen, rest = order[: o.matching_groups or o.groups], order[o.matching_groups or o.groups :]
        weights = self._softmax(batch)

        def validation(groups: list[int]) -> Losses:
            return partial(problem.losses, problem.draw(everything, split="validation", groups=groups, rng=self.rng))

        found = meta_gradient(
            partial(problem.losses, batch),
            [validation([t]) for t in chosen],
            validation(rest) if rest else None,
            o.groups,
            problem.params,
            problem.learning_rate,
            weights,
            factor=o.matching,
            relative=o.matching_scale == "relative",
            rms=o.lookahead == "rms",
        )
        if found is None:
            return
        self.terms.append((found.validation, found.matching))
        # d w_i / d s_j of w = B softmax(s / temperature).
        slope = weights / o.temperature * (found.by_weight - (weights * found.by_weight).mean())
        index = batch.index.to(self.scores.device)[None]
        self.scores.grad = torch.sparse_coo_tensor(index, slope, self.scores.shape, check_invariants=True)
        self.optimiser.step()

    def report(self) -> Mapping[str, Tensor]:
        """ "weights" (N,) with mean 1, "step" (N,), "validation" and "matching" (K,): both terms at each score update."""
        weights = len(self.scores) * torch.softmax(self.scores / self.options.temperature, dim=0)
        terms = torch.tensor(self.terms).reshape(-1, 2)
        return {"weights": weights, "step": self.steps, "validation": terms[:, 0], "matching": terms[:, 1]}
