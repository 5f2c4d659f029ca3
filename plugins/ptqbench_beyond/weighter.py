"""The weighter `sample-frequency`: sample and band weights that learn while a unit is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Generator, Tensor

from ptqbench.errors import CellFailedError
from ptqbench.fitting.lookahead import Params
from ptqbench.roles.weighter import Batch, InnerProblem, Requirements, SampleWeighter
from ptqbench_beyond import SampleFrequencyOptions
from ptqbench_beyond.meta import MetaGradient, meta_gradient
from ptqbench_beyond.unknowns import TERM, BandWeights, SampleWeights, regulariser, weighed

UPDATE_COST = 2.5
"""One look-ahead takes about as long as this many optimiser steps (measured on the digits model)."""


class SampleFrequencyWeighter(SampleWeighter):
    """Sample weights omega and band weights lambda ("Beyond Uniformity", ICLR 2026), both from one-step look-aheads.

    Every unit starts with equal weights. At every k-th mini-batch lambda descends the validation error after a look-ahead
    with omega fixed, then omega with the new lambda; then the unit's trainables take their real step.
    """

    options: SampleFrequencyOptions

    def __init__(self, options: SampleFrequencyOptions) -> None:
        super().__init__(options)
        self.requires = Requirements(validation=options.validation, groups=options.groups)
        self.cost = 1 + (2 if options.learn == "both" else 1) * UPDATE_COST / options.every

    def begin_unit(self, unit: str, phase: str, problem: InnerProblem, rng: Generator) -> None:
        """Equal weights. Raises `CellFailedError` if the loss has no term beside "haar"."""
        o = self.options
        with torch.no_grad():
            parts = list(problem.loss_parts(problem.draw(1, rng=rng)))
        bands = [name for name in parts if _is_band(name)]
        if len(bands) == len(parts):
            raise CellFailedError(
                'sample-frequency validates on the plain error, and the loss has no term beside "haar"',
                'put "output" before "haar" in losses',
            )
        device = next(iter(problem.params.values())).device
        self.steps = problem.train_steps
        self.samples = SampleWeights(len(self.steps), device, o) if o.learn != "frequencies" else None
        self.bands = BandWeights(len(problem.timesteps), device, o) if o.learn != "samples" and bands else None
        self.rng = rng
        self.calls = 0
        self.terms: list[tuple[float, float]] = []

    def weights(self, batch: Batch, problem: InnerProblem) -> Tensor:
        """The sample weights (B,), of mean 1."""
        if self.calls % self.options.every == 0:
            self._learn(batch, problem)
        self.calls += 1
        return self._sample_weights(batch)

    def part_weights(self, batch: Batch, problem: InnerProblem) -> Mapping[str, Tensor]:
        """4 lambda of each sample's step for the four parts of the Haar term; nothing where the unit has none."""
        return self._factors(batch)

    def report(self) -> Mapping[str, Tensor]:
        """ "weights" (N,) with mean 1, "step" (N,), "validation" and "regulariser" (K,): their values at each update.

        "bands" (S, 4) are the weights of ll, lh, hl and hh at each sampling step, where the unit has them.
        """
        everything = torch.arange(len(self.steps))
        weights = self.samples.of(everything) if self.samples else torch.ones(len(self.steps))
        terms = torch.tensor(self.terms).reshape(-1, 2)
        found = {"weights": weights, "step": self.steps, "validation": terms[:, 0], "regulariser": terms[:, 1]}
        return found | ({"bands": self.bands.table} if self.bands else {})

    def _sample_weights(self, batch: Batch) -> Tensor:
        like = batch.target[0]
        return self.samples.of(batch.index.to(like.device)) if self.samples else torch.ones(len(batch)).to(like)

    def _factors(self, batch: Batch) -> dict[str, Tensor]:
        return self.bands.factors(batch.step) if self.bands else {}

    def _learn(self, batch: Batch, problem: InnerProblem) -> None:
        """lambda first, omega with the new lambda, both judged by the same validation samples."""
        held = problem.draw(self.options.validation_batch, split="validation", rng=self.rng)
        if self.bands:
            self._learn_bands(self.bands, batch, held, problem)
        if self.samples:
            self._learn_samples(self.samples, batch, held, problem)

    def _learn_bands(self, bands: BandWeights, batch: Batch, held: Batch, problem: InnerProblem) -> None:
        table, weights = bands.leaf(), self._sample_weights(batch)

        def train(params: Params) -> Tensor:
            return (weights * weighed(problem.loss_parts(batch, params), bands.factors(batch.step, table))).mean()

        found = meta_gradient(train, partial(_plain_error, problem, held), table, *self._step(problem), rms=self._rms)
        if found is None:
            return
        penalty = regulariser(table)
        (rise,) = torch.autograd.grad(penalty, table)
        bands.step(found.slope * self._scale(found) + self.options.beta * rise)
        self.terms.append((found.value, float(penalty.detach())))

    def _learn_samples(self, samples: SampleWeights, batch: Batch, held: Batch, problem: InnerProblem) -> None:
        index = batch.index.to(batch.target[0].device)
        scores, factors = samples.leaf(index), self._factors(batch)

        def train(params: Params) -> Tensor:
            return (samples.normalised(scores) * weighed(problem.loss_parts(batch, params), factors)).mean()

        found = meta_gradient(train, partial(_plain_error, problem, held), scores, *self._step(problem), rms=self._rms)
        if found is None:
            return
        samples.step(index, found.slope * self._scale(found))
        if not self.bands:
            self.terms.append((found.value, 0.0))

    def _step(self, problem: InnerProblem) -> tuple[Params, Mapping[str, float]]:
        return problem.params, problem.learning_rate

    @property
    def _rms(self) -> bool:
        return self.options.lookahead == "rms"

    def _scale(self, found: MetaGradient) -> float:
        """What the validation error is multiplied by beside beta times the regulariser."""
        return 1 / found.value if self.options.validation_scale == "relative" and found.value > 0 else 1.0


def _is_band(name: str) -> bool:
    return name.startswith(f"{TERM}.")


def _plain_error(problem: InnerProblem, held: Batch, params: Params) -> Tensor:
    """The mean validation error at `params`, of every part of the loss but the bands."""
    parts = problem.loss_parts(held, params)
    return torch.stack([value for name, value in parts.items() if not _is_band(name)]).sum(0).mean()
