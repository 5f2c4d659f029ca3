"""The closed-form meta-gradient against finite differences of the plainly written meta loss, in float64."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from ptqbench_gacq.meta import Groups, meta_gradient

T, B = 3, 6


class Rounded(nn.Module):
    """A convolution with soft rounding variables, a normalisation and attention: what a unit contains."""

    def __init__(self) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.register_buffer("w", torch.randn(4, 2, 3, 3, generator=g, dtype=torch.float64))
        self.alpha = nn.Parameter(torch.randn(4, 2, 3, 3, generator=g, dtype=torch.float64))
        self.scale = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        self.norm = nn.GroupNorm(2, 4).double().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        h = (torch.sigmoid(self.alpha) * 1.2 - 0.1).clamp(0, 1)
        y = torch.nn.functional.conv2d(x, self.scale * (torch.floor(self.w / 0.3) + h), padding=1)
        y = nn.functional.silu(self.norm(y))
        tokens = y.flatten(2).transpose(1, 2)[:, None]
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            y = y + nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)[:, 0].transpose(1, 2).view_as(y)
        return y


@pytest.fixture
def problem():
    module = Rounded()
    g = torch.Generator().manual_seed(1)

    def losses(x, y, params):
        return (functional_call(module, dict(params), (x,)) - y).square().sum(1).mean((1, 2))

    def data(n):
        return torch.randn(n, 2, 5, 5, generator=g, dtype=torch.float64), torch.randn(
            n, 4, 5, 5, generator=g, dtype=torch.float64
        )

    train = partial(losses, *data(B))
    groups = [partial(losses, *data(2)) for _ in range(T)]
    params = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
    weights = torch.rand(B, generator=g, dtype=torch.float64) + 0.5
    return train, groups, params, {"alpha": 0.05, "scale": 0.01}, weights / weights.sum()


def solve(problem, chosen=range(T), **options):
    train, groups, params, rates, weights = problem
    rest = [groups[t] for t in range(T) if t not in chosen]
    together = (lambda p: torch.cat([group(p) for group in rest])) if rest else None
    return meta_gradient(train, Groups([groups[t] for t in chosen], together, T), params, rates, weights, **options)


def plain_meta_loss(problem, weights, factor, eta, *, with_matching=True):
    """mean_t L_t + factor * M, with g_t from autograd through the look-ahead: nothing shared with the closed form."""
    train, groups, params, _, _ = problem
    theta = {n: p.clone().requires_grad_() for n, p in params.items()}
    w = weights.clone().requires_grad_()
    slopes = torch.autograd.grad((w * train(theta)).sum(), list(theta.values()), create_graph=True)
    star = {n: theta[n] - eta[n] * s for (n, s) in zip(theta, slopes, strict=True)}
    losses = [group(star).mean() for group in groups]
    value = sum(losses) / T
    if with_matching:
        g = [torch.autograd.grad(loss, w, retain_graph=True)[0] for loss in losses]
        pairs = [g[t] @ g[k] for t in range(T) for k in range(T) if t != k]
        value = value - factor * sum(pairs) / len(pairs)
    return float(value.detach())


def differences(problem, factor, eta, **kwargs):
    weights, h, out = problem[4], 1e-5, []
    for i in range(B):
        bump = torch.zeros(B, dtype=torch.float64)
        bump[i] = h
        up = plain_meta_loss(problem, weights + bump, factor, eta, **kwargs)
        down = plain_meta_loss(problem, weights - bump, factor, eta, **kwargs)
        out.append((up - down) / (2 * h))
    return torch.tensor(out, dtype=torch.float64)


def step_sizes(problem, rms):
    train, _, params, rates, weights = problem
    if not rms:
        return rates
    theta = {n: p.clone().requires_grad_() for n, p in params.items()}
    slopes = torch.autograd.grad((weights * train(theta)).sum(), list(theta.values()))
    return {n: rates[n] / float(s.square().mean().sqrt()) for n, s in zip(theta, slopes, strict=True)}


@pytest.mark.parametrize("rms", [False, True])
def test_exact_meta_gradient_equals_finite_differences(problem, rms):
    # Looking a short way ahead, groups have small gradients, whose products vanish without a large factor.
    factor = 1e3 if rms else 1e6
    found = solve(problem, factor=factor, rms=rms, chosen=range(T))
    eta = step_sizes(problem, rms)
    expected = differences(problem, factor, eta)
    torch.testing.assert_close(found.by_weight, expected, rtol=1e-5, atol=1e-9)
    without = differences(problem, 0.0, eta, with_matching=False)
    assert (expected - without).norm() > 0.01 * without.norm(), "the matching term is not put to the test"
    value = plain_meta_loss(problem, problem[4], factor, eta)
    assert found.validation + found.matching == pytest.approx(value, rel=1e-9)


def test_without_matching_only_the_validation_error_counts(problem):
    found = solve(problem, factor=0.0, rms=True, chosen=[0])
    expected = differences(problem, 0.0, step_sizes(problem, True), with_matching=False)
    torch.testing.assert_close(found.by_weight, expected, rtol=1e-6, atol=1e-10)
    assert found.matching == 0


@pytest.mark.parametrize("rms", [False, True])
def test_one_random_group_at_a_time_is_unbiased(problem, rms):
    """The mean over single groups equals the gradient with all groups, with the options that are the default."""
    exact = solve(problem, factor=3.0, rms=rms, chosen=range(T))
    single = [solve(problem, factor=3.0, rms=rms, chosen=[t]) for t in range(T)]
    mean = torch.stack([s.by_weight for s in single]).mean(0)
    torch.testing.assert_close(mean, exact.by_weight)
    assert sum(s.matching for s in single) / T == pytest.approx(exact.matching)


def test_agreeing_groups_lower_the_meta_loss(problem):
    """Two groups with the same samples have g_1 = g_2, and the term is minus its square."""
    train, groups, params, rates, weights = problem
    found = meta_gradient(train, Groups([groups[0]] * 2, None, 2), params, rates, weights, factor=1.0, rms=True)
    alone = meta_gradient(train, Groups([groups[0]] * 2, None, 2), params, rates, weights, factor=0.0, rms=True)
    assert found.matching == pytest.approx(-float(alone.by_weight.square().sum()))


def test_a_vanishing_gradient_gives_nothing_to_learn_from(problem):
    _train, groups, params, rates, weights = problem
    flat = lambda p: 0.0 * sum(v.sum() for v in p.values()) * torch.ones(B, dtype=torch.float64)  # noqa: E731
    assert solve((flat, groups, params, rates, weights), factor=1.0, rms=True) is None
