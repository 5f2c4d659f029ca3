"""The weighter from scores to scores: the derivative through the softmax, its schedules, and what it validates on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest
import torch
from torch import Generator, Tensor

from ptqbench.roles.weighter import Batch, InnerProblem
from ptqbench_gacq import GacqOptions
from ptqbench_gacq.objective import PATH
from ptqbench_gacq.weighter import GacqWeighter

GROUPS, EACH, N, ITERATIONS = 3, 2, 6, 40


class Quadratic:
    """Samples pull the trainable towards targets of their own: l_i = |theta - y_i|^2. Training samples 0 to 2 pull towards
    where all validation samples are, samples 3 to 5 away from it. The network's error is least elsewhere, at `goal`."""

    def __init__(self, spread: float = 0.0, goal: float = 1.0) -> None:
        generator = Generator().manual_seed(0)
        self.params = {"theta": torch.zeros(4, dtype=torch.float64)}
        self.learning_rate = {"theta": 0.05 * PATH / ITERATIONS}
        self.iterations = ITERATIONS
        self.train_steps = torch.arange(N)
        signs = torch.tensor([1.0, 1, 1, -1, -1, -1], dtype=torch.float64)[:, None]
        self.train = signs * torch.ones(N, 4, dtype=torch.float64) + 0.1 * torch.randn(N, 4, generator=generator).double()
        noise = spread * torch.randn(GROUPS * EACH, 4, generator=generator).double()
        self.validation = torch.ones(GROUPS * EACH, 4, dtype=torch.float64) + noise
        self.goal = goal
        self.drawn: list[list[int]] = []

    def draw(self, size: int, *, split: str = "train", groups: Sequence[int] | None = None, rng: Generator) -> Batch:
        assert split == "validation" and groups is not None
        self.drawn.append(list(groups))
        index = torch.cat([torch.arange(g * EACH, (g + 1) * EACH)[:size] for g in groups])
        return Batch(index, index, (), {}, (self.validation[index],), 0)

    def take(self, index: Tensor, *, split: str = "train", seed: int = 0) -> Batch:
        return Batch(index, index, (), {}, (self.train[index],), seed)

    def losses(self, batch: Batch, params: Mapping[str, Tensor] | None = None) -> Tensor:
        theta = (params or self.params)["theta"]
        return (theta - batch.target[0]).square().sum(1)

    def network_losses(self, batch: Batch, params: Mapping[str, Tensor] | None = None) -> Tensor:
        theta = (params or self.params)["theta"]
        return (theta - self.goal * (1.0 + batch.step[:, None])).square().sum(1)

    def gains(self) -> Tensor:
        return torch.tensor([1.0, 0, 0, 0, 0, 0])


def begun(problem: Quadratic, **options: Any) -> GacqWeighter:
    weighter = GacqWeighter(GacqOptions.model_validate({"groups": GROUPS, "matching": 0.0, **options}))
    weighter.begin_unit("unit", "rounding", cast(InnerProblem, problem), Generator().manual_seed(1))
    return weighter


def weigh(weighter: GacqWeighter, problem: Quadratic, index: Tensor | None = None) -> Tensor:
    batch = problem.take(torch.arange(N) if index is None else index)
    return weighter.weights(batch, cast(InnerProblem, problem))


def terms(problem: Quadratic, scores: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Both terms of the meta loss, written out with autograd all the way: nothing shared with the plugin."""
    omega = torch.softmax(scores / temperature, dim=0)
    theta = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad((omega * (theta - problem.train).square().sum(1)).sum(), theta, create_graph=True)
    eta = 0.05 / float(slope.detach().square().mean().sqrt())
    star = theta - eta * slope
    losses = [(star - group).square().sum(1).mean() for group in problem.validation.split(EACH)]
    g = [torch.autograd.grad(loss, omega, create_graph=True)[0] for loss in losses]
    pairs = [g[t] @ g[k] for t in range(GROUPS) for k in range(GROUPS) if t != k]
    return torch.stack(losses).mean(), -torch.stack(pairs).mean()


def slopes(problem: Quadratic, scores: Tensor, temperature: float) -> list[Tensor]:
    leaf = scores.clone().requires_grad_()
    return [torch.autograd.grad(term, leaf, retain_graph=True)[0] for term in terms(problem, leaf, temperature)]


@pytest.mark.parametrize("temperature", [0.5, 2.0])
@pytest.mark.parametrize("share", [0.0, 0.4])
def test_scores_move_against_both_terms_the_second_at_its_share_of_the_firsts_length(temperature: float, share: float) -> None:
    problem = Quadratic(spread=1.0)
    weighter = begun(problem, schedule="fitting", every=1, temperature=temperature, matching=share, score_rate=0.01)
    weighter.scores += torch.randn(N, generator=Generator().manual_seed(2))
    before = weighter.scores.clone()
    weigh(weighter, problem)
    validation, matching = slopes(problem, before.double(), temperature)
    slope = validation + share * validation.norm() / matching.norm() * matching
    # The first step's moments are corrected to the slope itself and its root mean square.
    expected = before - 0.01 * slope / slope.square().mean().sqrt()
    torch.testing.assert_close(weighter.scores, expected.float(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("measure", ["product", "cosine"])
@pytest.mark.parametrize("space", ["weights", "trainables"])
@pytest.mark.parametrize("length", [1e-3, 1.0, 1e3])
def test_a_step_lowers_the_validation_error_however_far_it_looks_ahead(length: float, space: str, measure: str) -> None:
    problem = Quadratic(spread=1.0)
    problem.learning_rate = {"theta": length * 0.05 * PATH / ITERATIONS}
    options = {"matching": 0.9, "matching_space": space, "matching_measure": measure, "score_rate": 1e-4}
    weighter = begun(problem, schedule="fitting", every=1, **options)
    weigh(weighter, problem)
    (update,) = weighter.objective.updates
    uphill = slopes_at(problem, length)
    assert float(weighter.scores.double() @ uphill) < 0
    assert update.validation_slope == pytest.approx(float(uphill.norm()), rel=1e-4)


def slopes_at(problem: Quadratic, length: float) -> Tensor:
    """The validation error's derivative by equal scores, for a look-ahead of 0.05 `length`, in closed form."""
    pull = 2 * (0 - problem.train.mean(0))
    eta = 0.05 * length / float(pull.square().mean().sqrt())
    rise = 2 * (-eta * pull - problem.validation.mean(0))
    by_weight = -eta * (2 * -problem.train) @ rise
    return (by_weight - by_weight.mean()) / N


@pytest.mark.parametrize("schedule", ["fitting", "before", "each"])
def test_samples_that_lead_away_from_the_validation_set_lose_weight(schedule: str) -> None:
    problem = Quadratic()
    weighter = begun(problem, schedule=schedule, score_rate=0.5)
    for _ in range(ITERATIONS):
        weights = weigh(weighter, problem)
    assert float(weights.mean()) == pytest.approx(1)
    assert float(weights[:3].min()) > 1.2 > 0.8 > float(weights[3:].max())


def test_while_a_unit_is_fitted_scores_learn_so_often_over_its_first_half() -> None:
    problem = Quadratic()
    weighter = begun(problem, schedule="fitting", updates=4)
    learned = []
    for _ in range(ITERATIONS):
        weigh(weighter, problem, torch.tensor([0, 1]))
        learned.append(len(weighter.objective.updates))
    assert [learned.index(k) for k in (1, 2, 3, 4)] == [5, 10, 15, 20]
    assert max(learned) == 4
    assert weighter.report()["touches"].tolist() == [4] * N


def test_a_look_ahead_that_goes_nowhere_is_tried_once() -> None:
    problem = Quadratic()
    problem.train = torch.zeros_like(problem.train)
    weighter = begun(problem, schedule="fitting", updates=2)
    for _ in range(ITERATIONS):
        assert weigh(weighter, problem).tolist() == [1] * N
    assert len(problem.drawn) == 2


def test_weights_learned_before_stay_as_they_are() -> None:
    problem = Quadratic()
    weighter = begun(problem, schedule="before", updates=3)
    first = weigh(weighter, problem)
    assert len(weighter.objective.updates) == 3 and float(first[0]) > float(first[5])
    for _ in range(ITERATIONS):
        assert torch.equal(weigh(weighter, problem), first)


def test_weights_of_each_mini_batch_are_forgotten() -> None:
    problem = Quadratic()
    weighter = begun(problem, schedule="each")
    mixed, alone = torch.tensor([1, 4]), torch.tensor([4, 5])
    first = weigh(weighter, problem, mixed)
    assert float(first[0]) > 1 > float(first[1])
    weigh(weighter, problem, alone)
    torch.testing.assert_close(weigh(weighter, problem, mixed), first)
    report = weighter.report()
    assert report["touches"].tolist() == [0, 2, 0, 0, 3, 1]
    assert float(report["weights"][1]) > float(report["weights"][4])


def test_a_mini_batchs_scores_alone_learn_at_every_kth() -> None:
    problem = Quadratic()
    weighter = begun(problem, schedule="fitting", scope="batch", every=4)
    weigh(weighter, problem, torch.tensor([1, 4]))
    assert (weighter.scores[[0, 2, 3, 5]] == 0).all()
    assert weighter.scores[1] > 0 > weighter.scores[4]
    for _ in range(8):
        weigh(weighter, problem, torch.tensor([1, 4]))
    assert len(weighter.objective.updates) == 3


def test_groups_are_read_apart_to_be_matched_and_together_where_nothing_is() -> None:
    for matching, expected in ((0.5, [[0], [1], [2]]), (0.0, [[0, 1, 2]])):
        problem = Quadratic()
        weigh(begun(problem, schedule="fitting", every=1, matching=matching), problem)
        assert problem.drawn == expected


def test_a_rate_of_zero_learns_nothing_and_holds_the_same_samples_out() -> None:
    problem = Quadratic()
    weighter = begun(problem, schedule="before", score_rate=0.0)
    assert weigh(weighter, problem).tolist() == [1] * N
    assert not problem.drawn and weighter.requires == GacqWeighter(GacqOptions(groups=GROUPS)).requires
    assert weighter.cost == 1


def test_validation_on_the_network_follows_its_error_and_the_samplers_gains() -> None:
    weights = {}
    for goal in (1.0, -1.0):
        for gain in (False, True):
            problem = Quadratic(goal=goal)
            weighter = begun(problem, schedule="before", validate_on="network", gain=gain)
            weights[goal, gain] = weigh(weighter, problem)
            value = weighter.objective.updates[0].validation
            # At equal weights the look-ahead is 0.05 long; errors are 4 (s + 1)^2 at step s, of which gains leave the first.
            assert value == pytest.approx(4 / 6 if gain else 4 * 91 / 6, rel=0.2)
    assert float(weights[1.0, False][0]) > 1 > float(weights[-1.0, False][0])


def test_an_update_of_a_very_short_fit_is_of_a_mini_batch_at_least() -> None:
    problem = Quadratic()
    problem.iterations = 1
    weighter = begun(problem, schedule="fitting", updates=4)
    weigh(weighter, problem, torch.tensor([2]))
    assert weighter.report()["touches"].sum() == 1
