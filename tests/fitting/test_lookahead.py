"""A look-ahead step and its derivative by what weighs the loss, against autograd through the written-out step in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ptqbench.errors import CellFailedError
from ptqbench.fitting.lookahead import LookAhead, gradients, leaves, slope_along

B = 5
RATES = {"a": 0.3, "b": 0.02}


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


PARAMS = {"a": drawn(4, 3, seed=0), "b": drawn(3, seed=1)}
X, W = drawn(B, 4, seed=2), drawn(B, seed=3).exp()


def losses(p: Any) -> Tensor:
    """(B,), neither linear nor quadratic in the trainables."""
    return ((X @ p["a"]).tanh() * p["b"].exp()).square().sum(1)


def validation(p: Any) -> Tensor:
    return (p["a"].sin().sum(0) * p["b"]).square().sum()


def stepped(rms: bool, pieces: int = B) -> tuple[LookAhead, Tensor]:
    """A step down the weighted mean of the losses, `pieces` samples at a time."""
    weights = W.clone().requires_grad_()

    def part(index: Tensor) -> Any:
        return lambda theta: (weights[index] * losses(theta)[index]).sum() / B

    return LookAhead([part(index) for index in torch.arange(B).split(pieces)], PARAMS, RATES, rms=rms), weights


def through_the_step(value: Any, eta: dict[str, float]) -> Tensor:
    """The derivative of value(theta*) by the weights, differentiated through the step itself."""
    theta, weights = leaves(PARAMS), W.clone().requires_grad_()
    slopes = torch.autograd.grad((weights * losses(theta)).mean(), list(theta.values()), create_graph=True)
    star = {n: theta[n] - eta[n] * s for n, s in zip(theta, slopes, strict=True)}
    return torch.autograd.grad(value(star), weights)[0]


@pytest.mark.parametrize("pieces", [B, 2])
@pytest.mark.parametrize("rms", [False, True])
def test_the_derivative_is_that_of_the_step_whose_length_is_constant(rms: bool, pieces: int) -> None:
    ahead, weights = stepped(rms, pieces)
    star = ahead.end()
    found = ahead.derivative(gradients(validation(star), star), weights)
    torch.testing.assert_close(found, through_the_step(validation, dict(ahead.eta)))
    assert float(found.abs().min()) > 0


def test_one_step_serves_several_functions_of_its_end() -> None:
    ahead, weights = stepped(True)
    star = ahead.end()
    for value in (validation, lambda p: p["a"].cos().sum() + 0 * p["b"].sum(), validation):
        found = ahead.derivative(gradients(value(star), star), weights)
        torch.testing.assert_close(found, through_the_step(value, dict(ahead.eta)))


def test_a_pull_on_some_trainables_stands_for_no_pull_on_the_others() -> None:
    ahead, weights = stepped(True)
    star = ahead.end()
    (pull,) = torch.autograd.grad(star["a"].sin().sum(), star["a"])
    both = ahead.derivative({"a": pull, "b": torch.zeros(3, dtype=torch.float64)}, weights)
    assert torch.equal(ahead.derivative({"a": pull}, weights), both)


def test_rms_steps_are_as_long_as_their_rates_and_plain_ones_follow_the_gradient() -> None:
    for rms in (True, False):
        ahead, _ = stepped(rms)
        for name, value in ahead.end().items():
            step = PARAMS[name] - value.detach()
            length = RATES[name] if rms else RATES[name] * float(ahead.slopes[name].detach().square().mean().sqrt())
            assert float(step.square().mean().sqrt()) == pytest.approx(length)
            assert value.is_leaf and value.requires_grad


@pytest.mark.parametrize("rms", [False, True])
def test_what_the_loss_does_not_depend_on_stands_still(rms: bool) -> None:
    params = PARAMS | {"unused": drawn(2, seed=4), "flat": drawn(2, seed=5)}
    weights = W.clone().requires_grad_()
    loss = lambda theta: (weights * losses(theta)).mean() + 0.0 * theta["flat"].sum()  # noqa: E731
    ahead = LookAhead([loss], params, RATES | {"unused": 0.1, "flat": 0.1}, rms=rms)
    assert ahead.moving == ("a", "b")
    for name in ("unused", "flat"):
        assert torch.equal(ahead.end()[name].detach(), params[name])
    star = ahead.end()
    everything = gradients(validation(star) + star["unused"].sum() + star["flat"].sum(), star)
    assert torch.isfinite(ahead.derivative(everything, weights)).all()


@pytest.mark.parametrize("rms", [False, True])
def test_a_rate_of_zero_and_a_slope_that_vanishes_when_squared_move_nothing(rms: bool) -> None:
    params = {"still": torch.ones(3), "tiny": torch.ones(3)}
    loss = lambda theta: theta["still"].sum() + 1e-30 * theta["tiny"].sum()  # noqa: E731
    ahead = LookAhead([loss], params, {"still": 0.0, "tiny": 0.1}, rms=rms)
    # Without rms the tiny slope counts as it is, though the sum is lost in rounding.
    assert ahead.moving == (() if rms else ("tiny",))
    assert all(torch.equal(value.detach(), torch.ones(3)) for value in ahead.end().values())


def test_gradients_are_zero_where_autograd_has_none() -> None:
    p = {"used": torch.ones(2, requires_grad=True), "unused": torch.ones(3, requires_grad=True)}
    found = gradients(3 * p["used"].sum(), p)
    assert {name: value.tolist() for name, value in found.items()} == {"used": [3, 3], "unused": [0, 0, 0]}
    constant = gradients(torch.tensor(1.0), p)
    assert {name: value.tolist() for name, value in constant.items()} == {"used": [0, 0], "unused": [0, 0, 0]}


def test_gradients_can_be_differentiated_or_taken_twice() -> None:
    p = {"x": torch.tensor(2.0, requires_grad=True)}
    slopes = gradients(p["x"] ** 3, p, graph=True)
    assert float(gradients(slopes["x"], p)["x"]) == 12
    cube = p["x"] ** 3
    assert [float(gradients(cube, p, keep=True)["x"]) for _ in range(2)] == [12, 12]


@pytest.mark.parametrize("rms", [False, True])
def test_slopes_that_are_not_finite_do_not_pass_for_a_unit_that_stands_still(rms: bool) -> None:
    ahead = LookAhead([lambda theta: (losses(theta) * torch.nan).mean()], PARAMS, RATES, rms=rms)
    assert ahead.moving == ("a", "b")


def test_the_slope_along_a_direction_is_the_gradients_product_with_it() -> None:
    direction = {name: drawn(*value.shape, seed=6 + i) for i, (name, value) in enumerate(PARAMS.items())}
    found = slope_along(losses, PARAMS, direction)
    by_param = torch.func.jacrev(losses)(PARAMS)
    torch.testing.assert_close(found, sum((by_param[name] * direction[name]).flatten(1).sum(1) for name in PARAMS))
    only = slope_along(losses, PARAMS, {"b": direction["b"]})
    torch.testing.assert_close(only, (by_param["b"] * direction["b"]).sum(1))
    assert slope_along(lambda p: p["a"].sum(), PARAMS, {"b": direction["b"]}) == 0


class WithoutForward(torch.autograd.Function):
    """Rounds, with the identity as gradient in reverse mode and the true one, zero, in forward mode."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return torch.zeros_like(tangent)


def under_no_grad(x: Tensor) -> Tensor:
    with torch.no_grad():
        rest = x.round() - x
    return x + rest


@pytest.mark.parametrize("rounded", [WithoutForward.apply, under_no_grad])
def test_an_estimator_that_forward_mode_does_not_know_is_no_silent_zero(rounded: Any) -> None:
    weights = W.clone().requires_grad_()
    loss = lambda theta: (weights * losses({"a": rounded(theta["a"]), "b": theta["b"]})).mean()  # noqa: E731
    ahead = LookAhead([loss], PARAMS, RATES, rms=True)
    star = ahead.end()
    with pytest.raises(CellFailedError, match="in forward mode"):
        ahead.derivative(gradients(validation(star), star), weights)
