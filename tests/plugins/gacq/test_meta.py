"""The closed-form meta-gradient against autograd through the look-ahead and finite differences, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pytest
import torch
from metakit import Rounded
from torch import Tensor, nn
from torch.func import functional_call

from ptqbench_gacq.meta import Matching, Part, disagreement, meta_gradient

T, B = 3, 6


class Attentive(Rounded):
    """With attention behind it: what a unit contains."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        tokens = y.flatten(2).transpose(1, 2)[:, None]
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return y + nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)[:, 0].transpose(1, 2).view_as(y)


@dataclass(frozen=True)
class Solved:
    validation: float
    matching: float
    by_validation: Tensor
    by_matching: Tensor | None


class Problem:
    """Training samples, validation groups of two samples, and weights of sum 1."""

    def __init__(self) -> None:
        g = torch.Generator().manual_seed(1)
        self.module = Attentive()
        self.train = partial(self.losses, *self.data(B, g))
        self.groups = [self.mean_of(*self.data(2, g)) for _ in range(T)]
        self.params = {name: p.detach() for name, p in self.module.named_parameters() if p.requires_grad}
        self.rates = {"alpha": 0.05, "scale": 0.01}
        weights = torch.rand(B, generator=g, dtype=torch.float64) + 0.5
        self.weights = weights / weights.sum()

    def data(self, n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
        return tuple(torch.randn(n, c, 5, 5, generator=g, dtype=torch.float64) for c in (2, 4))

    def losses(self, x, y, params):
        return (functional_call(self.module, dict(params), (x,)) - y).square().sum(1).mean((1, 2))

    def mean_of(self, x, y):
        return lambda params: self.losses(x, y, params).mean()

    def parts(self, size: int = B) -> list[Part]:
        def some(index):
            return lambda params: self.train(params)[index]

        return [Part(index, some(index)) for index in torch.arange(B).split(size)]

    def solve(self, matching=None, *, rms=True, size=B):
        """Both terms and their derivatives by the weights."""
        parts = self.parts(size)
        found = meta_gradient(parts, self.groups, self.params, self.rates, self.weights, matching=matching, rms=rms)
        pulls = [] if found is None else [found.by_validation, found.by_matching]
        by = [None if pull is None else found.by_weights(pull) for pull in pulls]
        return None if found is None else Solved(found.validation, found.matching, *by)

    def matching(self, space: str, measure: str) -> Matching:
        return Matching(measure, self.parts(1) if space == "weights" else None)

    def eta(self, rms: bool):
        if not rms:
            return self.rates
        theta = {n: p.clone().requires_grad_() for n, p in self.params.items()}
        slopes = torch.autograd.grad((self.weights * self.train(theta)).sum(), list(theta.values()))
        return {n: self.rates[n] / float(s.square().mean().sqrt()) for n, s in zip(theta, slopes, strict=True)}

    def plain(self, weights: Tensor, eta, space: str = "weights", measure: str = "product"):
        """Both terms, differentiated through the look-ahead by autograd: nothing shared with the closed form."""
        theta = {n: p.clone().requires_grad_() for n, p in self.params.items()}
        w = weights.clone().requires_grad_()
        slopes = torch.autograd.grad((w * self.train(theta)).sum(), list(theta.values()), create_graph=True)
        star = {n: theta[n] - eta[n] * s for (n, s) in zip(theta, slopes, strict=True)}
        losses = [group(star) for group in self.groups]
        by = [w] if space == "weights" else list(star.values())
        found = [torch.autograd.grad(loss, by, create_graph=True) for loss in losses]
        g = torch.stack([torch.cat([one.flatten() for one in own]) for own in found])
        if measure == "cosine":
            g = g / g.norm(dim=1, keepdim=True)
        pairs = [g[t] @ g[k] for t in range(T) for k in range(T) if t != k]
        return w, sum(losses) / T, -sum(pairs) / len(pairs)


@pytest.fixture
def problem() -> Problem:
    return Problem()


@pytest.mark.parametrize("measure", ["product", "cosine"])
@pytest.mark.parametrize("space", ["weights", "trainables"])
@pytest.mark.parametrize("rms", [False, True])
def test_both_derivatives_equal_autograd_through_the_look_ahead(problem: Problem, rms: bool, space: str, measure: str) -> None:
    found = problem.solve(problem.matching(space, measure), rms=rms)
    w, validation, matching = problem.plain(problem.weights, problem.eta(rms), space, measure)
    (by_validation,) = torch.autograd.grad(validation, w, retain_graph=True)
    (by_matching,) = torch.autograd.grad(matching, w)
    torch.testing.assert_close(found.by_validation, by_validation)
    torch.testing.assert_close(found.by_matching, by_matching)
    assert (found.validation, found.matching) == (pytest.approx(float(validation)), pytest.approx(float(matching)))


@pytest.mark.parametrize("measure", ["product", "cosine"])
def test_the_matching_terms_derivative_equals_finite_differences(problem: Problem, measure: str) -> None:
    found = problem.solve(problem.matching("weights", measure))
    eta, h, expected = problem.eta(True), 1e-6, []
    for bump in h * torch.eye(B, dtype=torch.float64):
        ends = [float(problem.plain(problem.weights + side * bump, eta, "weights", measure)[2]) for side in (1, -1)]
        expected.append((ends[0] - ends[1]) / (2 * h))
    assert found.by_matching.tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("space", ["weights", "trainables"])
def test_samples_in_several_parts_weigh_as_in_one(problem: Problem, space: str) -> None:
    once, often = (problem.solve(problem.matching(space, "cosine"), size=size) for size in (B, 4))
    torch.testing.assert_close(often.by_validation, once.by_validation)
    torch.testing.assert_close(often.by_matching, once.by_matching)


@pytest.mark.parametrize("kept", [0, 2**30])
def test_by_a_samples_weights_the_derivatives_are_those_by_all(problem: Problem, monkeypatch, kept: int) -> None:
    """Whether gradients of single samples are kept or taken again, and where none are."""
    monkeypatch.setattr("ptqbench_gacq.meta.KEPT", kept)
    some = problem.parts(1)
    for matching in (None, problem.matching("trainables", "product"), problem.matching("weights", "product")):
        found = meta_gradient(
            problem.parts(), problem.groups, problem.params, problem.rates, problem.weights, matching=matching, rms=True
        )
        pulls = [pull for pull in (found.by_validation, found.by_matching) if pull is not None]
        torch.testing.assert_close(found.by_some(pulls, some), torch.stack([found.by_weights(pull) for pull in pulls]))


def test_without_matching_there_is_the_validation_error_alone(problem: Problem) -> None:
    alone, both = problem.solve(), problem.solve(problem.matching("weights", "product"))
    torch.testing.assert_close(alone.by_validation, both.by_validation)
    assert alone.by_matching is None and alone.matching == 0


def test_an_inner_product_depends_on_the_look_aheads_length_and_a_cosine_hardly() -> None:
    problem = Problem()
    values = {}
    for scale in (1.0, 0.1):
        problem.rates = {"alpha": 0.05 * scale, "scale": 0.01 * scale}
        for measure in ("product", "cosine"):
            values[measure, scale] = problem.solve(problem.matching("weights", measure)).matching
    assert values["product", 1.0] / values["product", 0.1] == pytest.approx(100, rel=0.5)
    assert values["cosine", 1.0] == pytest.approx(values["cosine", 0.1], abs=0.1)


def test_disagreement_is_least_for_rows_that_point_one_way() -> None:
    rows = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]])
    assert float(disagreement(rows, "product")) == pytest.approx(-1.0)
    assert float(disagreement(rows, "cosine")) == pytest.approx(-1 / 3)
    assert float(disagreement(rows[:2], "cosine")) == pytest.approx(-1.0)


def test_a_vanishing_gradient_gives_nothing_to_learn_from(problem: Problem) -> None:
    problem.train = lambda p: 0.0 * sum(v.sum() for v in p.values()) * torch.ones(B, dtype=torch.float64)
    assert problem.solve() is None
