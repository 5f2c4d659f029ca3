"""Whether GACQ does its job on a real unit: it finds samples that mislead, and its scores lower the error that they are for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from digitskit import DigitsUnits, course, planted
from torch import Tensor

from ptqbench.fitting.inner import UnitProblem
from ptqbench.fitting.scores import ScoreAdam
from ptqbench_gacq import GacqOptions
from ptqbench_gacq.objective import SAMPLE, Objective
from ptqbench_gacq.weighter import GacqWeighter

UNIT = "mid_block.resnets.0"
FAST, PUBLISHED = (160, 0.15), (20_000, 1e-3)
"""Iterations and rate of the rounding variables."""


@pytest.fixture(scope="module")
def units(cache: Path) -> DigitsUnits:
    return DigitsUnits(cache)


@pytest.fixture(scope="module")
def fits(units: DigitsUnits) -> dict[float, tuple[Tensor, float]]:
    """By rate of the scores: mean weight of bad and of good training samples, and the hardened unit's held-out error. Of the
    training targets one in five is off by two standard deviations."""
    data, bad = planted(units.data(UNIT), 0.2, 2.0)
    found = {}
    for rate in (0.0, 0.5):
        problem, weighter = units.problem(UNIT, data), GacqWeighter(GacqOptions(score_rate=rate))
        units.run(problem, weighter, course(*FAST))
        units.harden(UNIT)
        weights = weighter.report()["weights"]
        found[rate] = torch.stack([weights[bad].mean(), weights[~bad].mean()]), problem.mean_loss(data.validation)
    return found


def test_corrupted_samples_weigh_less_than_half_of_the_others(fits) -> None:
    (bad, good), _ = fits[0.5]
    assert bad < good / 2
    assert fits[0.0][0].tolist() == [1.0, 1.0]


def test_the_held_out_error_is_fifteen_percent_below_that_of_equal_weights(fits) -> None:
    assert fits[0.5][1] < 0.85 * fits[0.0][1]


@pytest.fixture(scope="module")
def begun(units: DigitsUnits) -> UnitProblem:
    """A unit that has been fitted for a while."""
    problem = units.problem(UNIT, units.data(UNIT))
    units.run(problem, GacqWeighter(GacqOptions(score_rate=0.0)), course(40, 0.05))
    return problem


def after_look_ahead(problem: UnitProblem, scores: Tensor, lengths: dict[str, float]) -> float:
    """The validation error after a look-ahead of these lengths down the loss of all training samples, by plain autograd."""
    params = {name: value.detach().requires_grad_() for name, value in problem.params.items()}
    batch = problem.take(torch.arange(len(problem.train_steps)))
    loss = (torch.softmax(scores, dim=0) * problem.losses(batch, params)).sum()
    slopes = dict(zip(params, torch.autograd.grad(loss, list(params.values())), strict=True))
    star = {n: params[n] - lengths[n] * slope / slope.square().mean().sqrt() for n, slope in slopes.items()}
    with torch.no_grad():
        held_out = problem.take(torch.arange(len(problem.data.validation)), split="validation")
        return float(problem.losses(held_out, star).mean())


@pytest.mark.parametrize("matching", [0.0, 0.5])
@pytest.mark.parametrize(("lookahead", "step"), [("path", 0.5), ("step", 0.05)])
@pytest.mark.parametrize("setting", [FAST, PUBLISHED], ids=["fast", "published"])
def test_a_score_step_lowers_the_error_that_it_is_for(
    begun: UnitProblem, setting: tuple[int, float], lookahead: str, step: float, matching: float
) -> None:
    """With the default look-ahead by a whole step of the scores; with others, their direction is right."""
    begun.iterations, rate = setting
    begun.learning_rate = dict.fromkeys(begun.params, rate)
    options = GacqOptions(lookahead=lookahead, matching=matching)
    objective = Objective(options, begun, torch.Generator().manual_seed(0))
    scores = torch.zeros(len(begun.train_steps))
    lengths = objective._lengths()
    before = after_look_ahead(begun, scores, lengths)
    samples = torch.randperm(len(scores), generator=torch.Generator().manual_seed(1))
    everything, some = objective.part(samples, torch.arange(len(scores))), objective.sample(samples, torch.arange(SAMPLE))
    slope = objective.slope([everything], some, scores[samples])
    ScoreAdam(scores, step).step(samples, slope)
    assert float(scores.std()) > step / 5
    now = after_look_ahead(begun, scores, lengths)
    assert now < before
