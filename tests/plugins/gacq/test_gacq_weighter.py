"""The weighter from scores to scores: the derivative through the softmax, its direction, and the groups that it draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import pytest
import torch
from torch import Generator, Tensor

from ptqbench.fitting.scores import ScoreAdam
from ptqbench.roles.weighter import Batch, InnerProblem
from ptqbench_gacq import GacqOptions
from ptqbench_gacq.weighter import GacqWeighter

GROUPS, EACH, N = 3, 2, 6


class Quadratic:
    """Samples pull the trainable towards targets of their own: l_i = |theta - y_i|^2. Training samples 0 to 2 pull towards
    where all validation samples are, samples 3 to 5 away from it."""

    def __init__(self, spread: float = 0.0) -> None:
        generator = Generator().manual_seed(0)
        self.params = {"theta": torch.zeros(4, dtype=torch.float64)}
        self.learning_rate = {"theta": 0.05}
        self.train_steps = torch.arange(N)
        signs = torch.tensor([1.0, 1, 1, -1, -1, -1], dtype=torch.float64)[:, None]
        self.train = signs * torch.ones(N, 4, dtype=torch.float64) + 0.1 * torch.randn(N, 4, generator=generator).double()
        noise = spread * torch.randn(GROUPS * EACH, 4, generator=generator).double()
        self.validation = torch.ones(GROUPS * EACH, 4, dtype=torch.float64) + noise
        self.drawn: list[list[int]] = []

    def draw(self, size: int, *, split: str = "train", groups: Sequence[int] | None = None, rng: Generator) -> Batch:
        assert split == "validation" and groups is not None
        self.drawn.append(list(groups))
        index = torch.cat([torch.arange(g * EACH, (g + 1) * EACH) for g in groups])
        return Batch(index, index, (), {}, (self.validation[index],), 0)

    def losses(self, batch: Batch, params: Mapping[str, Tensor] | None = None) -> Tensor:
        theta = (params or self.params)["theta"]
        return (theta - batch.target[0]).square().sum(1)


def begun(problem: Quadratic, **options: float | str) -> GacqWeighter:
    weighter = GacqWeighter(GacqOptions.model_validate({"groups": GROUPS, "every": 1, **options}))
    weighter.begin_unit("unit", "rounding", cast(InnerProblem, problem), Generator().manual_seed(1))
    return weighter


def batch_of(problem: Quadratic, index: Tensor) -> Batch:
    return Batch(index, index, (), {}, (problem.train[index],), 0)


def meta_loss(problem: Quadratic, scores: Tensor, temperature: float, matching: float) -> Tensor:
    """Written out with autograd all the way: nothing shared with the plugin."""
    omega = torch.softmax(scores / temperature, dim=0)
    theta = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad((omega * (theta - problem.train).square().sum(1)).sum(), theta, create_graph=True)
    eta = 0.05 / float(slope.detach().square().mean().sqrt())
    star = theta - eta * slope
    losses = [(star - group).square().sum(1).mean() for group in problem.validation.split(EACH)]
    g = [torch.autograd.grad(loss, omega, create_graph=True)[0] for loss in losses]
    pairs = [g[t] @ g[k] for t in range(GROUPS) for k in range(GROUPS) if t != k]
    return torch.stack(losses).mean() - matching * torch.stack(pairs).mean()


@pytest.mark.parametrize("temperature", [0.5, 2.0])
@pytest.mark.parametrize("matching", [0.0, 4.0])
def test_scores_move_against_the_meta_losses_derivative(temperature: float, matching: float) -> None:
    problem = Quadratic(spread=1.0)
    weighter = begun(problem, temperature=temperature, matching=matching, matching_groups=0, score_rate=0.1)
    weighter.scores = torch.randn(N, generator=Generator().manual_seed(2)).double()
    weighter.optimiser = ScoreAdam(weighter.scores, 0.1)
    before = weighter.scores.clone()
    weighter.weights(batch_of(problem, torch.arange(N)), cast(InnerProblem, problem))
    leaf = before.clone().requires_grad_()
    (slope,) = torch.autograd.grad(meta_loss(problem, leaf, temperature, matching), leaf)
    # The first step's moments are corrected to the slope itself and its root mean square.
    expected = before - 0.1 * slope / slope.square().mean().sqrt()
    torch.testing.assert_close(weighter.scores, expected, rtol=1e-6, atol=1e-9)


def test_samples_that_lead_away_from_the_validation_set_lose_weight() -> None:
    problem = Quadratic()
    weighter = begun(problem, score_rate=0.2, matching=0.0)
    for _ in range(20):
        weights = weighter.weights(batch_of(problem, torch.arange(N)), cast(InnerProblem, problem))
    assert float(weights.mean()) == pytest.approx(1)
    assert float(weights[:3].min()) > 1.5 > 0.5 > float(weights[3:].max())


def test_all_groups_are_read_and_the_matched_one_is_random() -> None:
    problem = Quadratic()
    weighter = begun(problem)
    for _ in range(12):
        weighter.weights(batch_of(problem, torch.arange(N)), cast(InnerProblem, problem))
    matched, rest = problem.drawn[::2], problem.drawn[1::2]
    assert all(sorted(m + r) == list(range(GROUPS)) and len(m) == 1 for m, r in zip(matched, rest, strict=True))
    assert len({m[0] for m in matched}) == GROUPS


def test_weights_are_learned_from_every_kth_mini_batch() -> None:
    problem = Quadratic()
    weighter = begun(problem, every=4)
    for _ in range(9):
        weighter.weights(batch_of(problem, torch.arange(N)), cast(InnerProblem, problem))
    assert len(weighter.report()["validation"]) == 3


def test_only_the_batchs_scores_move() -> None:
    problem = Quadratic()
    weighter = begun(problem, matching=0.0)
    weighter.weights(batch_of(problem, torch.tensor([1, 4])), cast(InnerProblem, problem))
    assert (weighter.scores[[0, 2, 3, 5]] == 0).all()
    assert weighter.scores[1] > 0 > weighter.scores[4]


@pytest.mark.parametrize(("options", "matched"), [({"matching": 0.0}, 0), ({}, 1), ({"matching_groups": 0}, 5)])
def test_the_forecast_counts_the_groups_that_are_matched(options: dict[str, float], matched: int) -> None:
    costs = [GacqWeighter(GacqOptions.model_validate({"every": 1, **o})).cost for o in ({"matching": 0.0}, options)]
    assert costs[1] - costs[0] == pytest.approx(1.6 * matched)
