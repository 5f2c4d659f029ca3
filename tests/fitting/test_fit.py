"""The weighted loss and the random streams of a fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from enginekit import unit_problem
from quantkit import frozen

from ptqbench.errors import CellFailedError
from ptqbench.fitting.fit import UnitFit
from ptqbench.fitting.unit_data import UnitData
from ptqbench.plugin.component import NoOptions
from ptqbench.roles.reconstruction import Course, Phase, Rate
from ptqbench.roles.weighter import SampleWeighter
from ptqbench.sampling.capture import Recording
from ptqbench.sampling.rng import stream

N = 24
PHASE = Phase("rounding", frozenset({"rounding"}), False, "quantized")
COURSE = Course(10, 4, {"rounding": Rate(0.1), "step": Rate(0.2, "cosine")}, 2.4)


class Given(SampleWeighter):
    """Returns what it is given, or draws from its own stream."""

    def __init__(self, value: Any, draws: int = 0) -> None:
        super().__init__(NoOptions())
        self.value, self.draws = value, draws

    def begin_unit(self, unit, phase, problem, rng):
        self.rng = rng

    def weights(self, batch, problem):
        if self.draws:
            torch.randn(self.draws, generator=self.rng)
            problem.draw(4, rng=self.rng)
        return self.value(len(batch)) if callable(self.value) else self.value


def fit(weighter: SampleWeighter) -> UnitFit:
    """A linear unit with random data."""
    torch.manual_seed(0)
    unit = torch.nn.Linear(5, 4)
    inputs, targets = Recording(), Recording()
    inputs.add(((torch.randn(N, 5),), {}), range(N), N)
    targets.add((torch.randn(N, 4),), range(N), N)
    empty = torch.empty(0, dtype=torch.int64)
    data = UnitData(inputs, targets, torch.arange(N) % 5, torch.arange(N), empty, empty)
    problem = unit_problem(unit, {"weight": "rounding", "bias": "step"}, data)
    made = UnitFit("u", PHASE, COURSE, problem, weighter, stream(0, "mini-batches", "u"), stream(0, "weighter/x", "u"))
    made.begin()
    return made


@pytest.mark.parametrize("size", [1, 3, 8, 17])
@pytest.mark.parametrize("weight", [1.0, 0.1, 3.0, 1e-30])
def test_equal_weights_give_the_unweighted_loss_bit_for_bit(size, weight):
    made = fit(Given(lambda n: torch.full((n,), weight)))
    batch = made.problem.draw(size, rng=made.rng)
    assert torch.equal(made.weighted_loss(batch), made.problem.losses(batch).mean())


def test_weights_are_rescaled_to_mean_one():
    weights = torch.tensor([1.0, 2.0, 5.0, 0.0])
    made = fit(Given(weights))
    batch = made.problem.draw(4, rng=made.rng)
    expected = (weights / 2 * made.problem.losses(batch)).mean()
    torch.testing.assert_close(made.weighted_loss(batch), expected)


def test_a_weighter_that_draws_does_not_shift_the_mini_batches():
    def order(weighter):
        made, seen = fit(weighter), []
        for _ in range(4):
            batch = made.problem.draw(6, rng=made.rng)
            made.weighted_loss(batch)
            seen.append((batch.index.tolist(), batch.seed))
        return seen

    assert order(Given(lambda n: torch.ones(n))) == order(Given(lambda n: torch.ones(n), draws=9))


def test_a_course_sets_exponent_and_rates_by_kind():
    made = fit(Given(None))
    assert made.problem.learning_rate == {"weight": 0.1, "bias": 0.2}
    assert made.problem.power == 2.4
    assert made.at(0.5) == {"rounding": 0.1, "step": pytest.approx(0.1)}
    assert made.problem.learning_rate == {"weight": 0.1, "bias": pytest.approx(0.1)}


def test_a_kind_without_a_rate_is_refused():
    made = fit(Given(None))
    made.course = Course(10, 4, {"rounding": Rate(0.1)})
    with pytest.raises(CellFailedError, match="learns step and gives no learning rate"):
        made.begin()


def test_the_loop_moves_each_kind_at_its_rate():
    """A first step of Adam is as long as the rate, whatever the gradient."""
    made = fit(Given(lambda n: torch.ones(n)))
    before = {name: p.detach().clone() for name, p in made.problem.params.items()}
    assert next(made.run()) == 0.1
    for name, rate in (("weight", 0.1), ("bias", 0.2)):
        moved = (made.problem.params[name] - before[name]).abs()
        torch.testing.assert_close(moved, torch.full_like(moved, rate), rtol=1e-4, atol=0)


def test_no_quantizer_learning_means_no_penalty():
    assert fit(Given(None)).penalty(0.5) is None


def test_penalties_of_all_learning_quantizers_are_added():
    made = fit(Given(None))
    w = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    quantizers = [frozen(w, "adaround") for _ in range(3)]
    made.problem.module.extra = torch.nn.ModuleList(quantizers)
    for quantizer in quantizers[:2]:
        quantizer.begin_learning(w)
    assert made.penalty(0.0) is None
    torch.testing.assert_close(made.penalty(0.5), 2 * quantizers[0].penalty(0.5))


def test_a_batch_has_the_length_of_its_samples():
    made = fit(Given(None))
    batch = made.problem.draw(5, rng=made.rng)
    assert len(batch) == 5
    assert (len(batch.args), dict(batch.kwargs)) == (1, {})
