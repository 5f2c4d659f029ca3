"""Gradients of timestep groups and of single samples, against finite differences and gradients made by hand."""

from __future__ import annotations

import math

import pytest
import torch
from enginekit import unit_problem
from torch import Tensor, nn

from ptqbench.diagnostics import gradients
from ptqbench.diagnostics.gradients import cosines, evenly, mean_gradient, sample_gradients
from ptqbench.diagnostics.observer import MOMENTS, GradientObserver
from ptqbench.fitting.inner import UnitProblem
from ptqbench.fitting.unit_data import UnitData
from ptqbench.sampling.capture import Recording

N, VALIDATION = 50, 10
POWER = 2.4


class Bent(nn.Module):
    """A small nonlinear unit of float64 parameters; `unused` belongs to no sample."""

    def __init__(self) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.a = nn.Parameter(torch.randn(4, 3, generator=g, dtype=torch.float64))
        self.b = nn.Parameter(torch.randn(2, 4, generator=g, dtype=torch.float64))
        self.unused = nn.Parameter(torch.ones(2, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.a.T) @ self.b.T


class Reporting:
    """As much of a weighter as an observer reads."""

    def __init__(self, weights: Tensor | None) -> None:
        self.tensors = {} if weights is None else {"weights": weights}

    def report(self) -> dict[str, Tensor]:
        return self.tensors


def problem_of(steps: Tensor | None = None, validation: int = VALIDATION) -> UnitProblem:
    """The unit with random samples at five steps; the last ones are for validation."""
    g = torch.Generator().manual_seed(1)
    x, y = torch.randn(N, 3, generator=g, dtype=torch.float64), torch.randn(N, 2, generator=g, dtype=torch.float64)
    inputs, targets = Recording(), Recording()
    inputs.add(((x,), {}), range(N), N)
    targets.add((y,), range(N), N)
    step = torch.arange(N) % 5 if steps is None else steps
    train, held = torch.arange(N - validation), torch.arange(N - validation, N)
    data = UnitData(inputs, targets, step, train, held, step[held])
    made = unit_problem(Bent(), {"a": "rounding", "b": "step", "unused": "step"}, data)
    made.power = POWER
    return made


def loss_by_hand(problem: UnitProblem, places: Tensor, values: Tensor) -> Tensor:
    """The mean loss of the unit as a function of its parameters in one vector."""
    x, y = problem.data.inputs.tensors[0][places], problem.data.targets.tensors[0][places]
    a, b = values[:12].view(4, 3), values[12:20].view(2, 4)
    return (torch.tanh(x @ a.T) @ b.T - y).abs().pow(POWER).sum(1).mean()


def values_of(problem: UnitProblem) -> Tensor:
    return torch.cat([p.detach().flatten() for p in problem.params.values()])


def slope_by_differences(problem: UnitProblem, places: Tensor, values: Tensor, h: float = 1e-6) -> Tensor:
    """The gradient by central differences."""
    found = torch.zeros_like(values)
    for i in range(len(values)):
        shift = torch.zeros_like(values)
        shift[i] = h
        ahead, behind = loss_by_hand(problem, places, values + shift), loss_by_hand(problem, places, values - shift)
        found[i] = (ahead - behind) / (2 * h)
    return found


def angle(a: Tensor, b: Tensor) -> float:
    """Cosine by the textbook, with plain sums."""
    dot = math.fsum(float(x * y) for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(math.fsum(float(x * x) for x in a) * math.fsum(float(y * y) for y in b))


@pytest.mark.parametrize("batch", [64, 7])
def test_the_gradient_of_a_mean_loss_is_that_of_finite_differences(monkeypatch, batch):
    monkeypatch.setattr(gradients, "BATCH", batch)
    problem, places = problem_of(), torch.arange(3, 40, 2)
    found, loss = mean_gradient(problem, places, problem.params)
    torch.testing.assert_close(found, slope_by_differences(problem, places, values_of(problem)), rtol=1e-6, atol=1e-8)
    assert loss == pytest.approx(float(loss_by_hand(problem, places, values_of(problem))), rel=1e-12)
    assert float(found[20:].abs().max()) == 0


def test_gradients_of_single_samples_average_to_the_mean_gradient_and_touch_nothing():
    problem, places = problem_of(), torch.arange(20)
    before = values_of(problem)
    singles = torch.stack(list(sample_gradients(problem, places, problem.params)))
    torch.testing.assert_close(singles.mean(0), mean_gradient(problem, places, problem.params)[0])
    torch.testing.assert_close(singles[4], slope_by_differences(problem, places[4:5], before), rtol=1e-6, atol=1e-7)
    assert all(p.grad is None for p in problem.params.values())
    assert torch.equal(values_of(problem), before)


def test_gradients_are_taken_at_the_given_values():
    problem, places = problem_of(), torch.arange(12)
    moved = {name: p.detach() + 0.1 for name, p in problem.params.items()}
    expected = slope_by_differences(problem, places, values_of(problem) + 0.1)
    torch.testing.assert_close(mean_gradient(problem, places, moved)[0], expected, rtol=1e-6, atol=1e-8)


def test_cosines_are_those_of_plain_sums():
    rows = torch.randn(4, 30, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = cosines(rows)
    for i in range(4):
        for j in range(4):
            assert float(found[i, j]) == pytest.approx(angle(rows[i], rows[j]), abs=1e-12)


def test_cosines_of_opposite_equal_and_empty_gradients():
    row = torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64)
    found = cosines(torch.stack([row, 5 * row, -row, torch.zeros(3), torch.full((3,), torch.nan)]))
    assert found[0, :3].tolist() == pytest.approx([1.0, 1.0, -1.0], abs=1e-15)
    assert bool(found[3:].isnan().all()) and bool(found[:, 3:].isnan().all())


@pytest.mark.parametrize(("count", "limit"), [(10, 64), (64, 64), (100, 64), (1000, 7)])
def test_evenly_spread_places(count, limit):
    found = evenly(torch.arange(count), limit)
    assert len(found) == min(count, limit) == len(found.unique())
    gaps = found.diff()
    assert int(gaps.max() - gaps.min()) <= 1
    assert int(found[0]) == 0 and int(found[-1]) >= count - int(gaps.max())


def observed(problem: UnitProblem, iterations: int, weights: Tensor | None = None, **options: int) -> dict[str, Tensor]:
    """Watch parameters that grow by 0.01 in each iteration."""
    observer = GradientObserver(**options)
    observer.begin(problem)
    for i in range(iterations):
        with torch.no_grad():
            for p in problem.params.values():
                p.add_(0.01)
        observer.see((i + 1) / iterations)
    return dict(observer.end(Reporting(weights)))


@pytest.mark.parametrize("iterations", [2, 3, 8])
def test_group_cosines_norms_and_losses_at_each_moment(iterations):
    problem = problem_of()
    start = values_of(problem)
    found = observed(problem, iterations, groups=5)
    assert found["cosine"].shape == (5, 5, 5)
    assert found["count"].tolist() == [10] * 5
    for m, moment in enumerate(MOMENTS):
        values = start + 0.01 * math.ceil(moment * iterations - 1e-9)
        slopes = [slope_by_differences(problem, torch.arange(g, N, 5), values) for g in range(5)]
        for g in range(5):
            assert float(found["norm"][m, g]) == pytest.approx(float(slopes[g].norm()), rel=1e-6)
            loss = loss_by_hand(problem, torch.arange(g, N, 5), values)
            assert float(found["loss"][m, g]) == pytest.approx(float(loss), rel=1e-12)
            assert float(found["cosine"][m, g, (g + 1) % 5]) == pytest.approx(angle(slopes[g], slopes[(g + 1) % 5]), abs=1e-6)


def test_a_reconstruction_that_stops_early_is_measured_at_its_end():
    problem = problem_of()
    observer = GradientObserver()
    observer.begin(problem)
    with torch.no_grad():
        problem.params["a"].add_(0.5)
    observer.see(0.3)
    found = observer.end(Reporting(None))
    assert found["loss"].shape == (5, 5)
    assert not torch.equal(found["loss"][0], found["loss"][1])
    assert torch.equal(found["loss"][1], found["loss"][4])


def test_groups_without_samples_are_unknown():
    found = observed(problem_of(steps=torch.arange(N) % 2), 2, groups=5)
    assert found["count"].tolist() == [25, 25, 0, 0, 0]
    assert bool(found["loss"][:, 2:].isnan().all()) and bool(found["cosine"][:, 2:].isnan().all())
    assert bool(found["cosine"][:, :2, :2].isfinite().all())


def test_samples_of_a_group_are_limited():
    problem = problem_of()
    found = observed(problem, 2, groups=1, samples=6)
    places = torch.arange(6) * N // 6
    expected = loss_by_hand(problem, places, values_of(problem))
    assert found["count"].tolist() == [6]
    assert float(found["loss"][-1, 0]) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("validation", [VALIDATION, 0])
def test_agreement_is_the_cosine_with_the_validation_gradient(validation):
    problem = problem_of(validation=validation)
    weights = torch.rand(N - validation, generator=torch.Generator().manual_seed(3))
    found = observed(problem, 2, weights, singles=9)
    values = values_of(problem)
    judges = torch.arange(N - validation, N) if validation else torch.arange(N)
    goal = slope_by_differences(problem, judges, values)
    chosen = torch.arange(9) * (N - validation) // 9
    expected = [angle(slope_by_differences(problem, torch.tensor([int(i)]), values), goal) for i in chosen]
    assert found["agreement"].tolist() == pytest.approx(expected, abs=1e-6)
    assert found["agreement.weight"].tolist() == pytest.approx(weights[chosen].tolist())
    assert found["agreement.step"].tolist() == (chosen % 5).tolist()


@pytest.mark.parametrize("weights", [None, torch.ones(3)], ids=["none", "of something else"])
def test_weighters_without_weights_of_training_samples_have_no_agreement(weights):
    found = observed(problem_of(), 2, weights)
    assert not [name for name in found if name.startswith("agreement")]


def test_the_settings_of_the_problem_are_left_as_they_were():
    problem = problem_of()
    problem.input_keep, problem.activation_keep = 0.5, 0.25
    step = problem.context.step = torch.tensor([1, 2])
    observed(problem, 3, torch.ones(N - VALIDATION))
    assert (problem.input_keep, problem.activation_keep) == (0.5, 0.25)
    assert problem.context.step is step
    assert all(p.grad is None for p in problem.params.values())


def test_the_key_names_the_options():
    assert GradientObserver().key == GradientObserver().key
    assert GradientObserver(groups=3).key != GradientObserver().key
