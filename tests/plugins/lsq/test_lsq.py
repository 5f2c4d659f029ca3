"""LSQ: gradients against torch's operator and by hand, rates relative to the scale, export."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from quantkit import FOUR_BITS, PER_TENSOR, frozen, quantizer
from torch import Tensor
from torch.func import functional_call

from ptqbench.errors import CellFailedError
from ptqbench.quant.grid import Layout, QuantSpec


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def learning(x: Tensor, layout: Layout = PER_TENSOR, spec: QuantSpec = FOUR_BITS, **options: Any) -> Any:
    made = frozen(x, "lsq", spec, layout, **options)
    made.begin_learning(None)
    return made


def test_gradient_by_hand_inside_and_outside_the_grid() -> None:
    made = learning(drawn(50))
    made.scale.fill_(0.5)
    made.zero_point.fill_(4)
    x = torch.tensor([0.6, -0.3, 9.0, -9.0], dtype=torch.float64)
    expected = [1 - 1.2, -1 + 0.6, 15 - 4, 0 - 4]
    for value, gradient in zip(x, expected, strict=True):
        made.log_step.grad = None
        made(value.reshape(1)).sum().backward()
        assert made.log_step.grad.item() == pytest.approx(0.5 * gradient)


@pytest.mark.parametrize("scaled", [False, True])
def test_gradient_matches_torchs_learnable_operator(scaled: bool) -> None:
    x = drawn(8, 5, 4).float()
    made = learning(x, gradient_scale="lsq" if scaled else "none")
    made.log_step.data.fill_(math.log(0.6))
    made(x).square().sum().backward()
    scale = made.export()["scale"].flatten().requires_grad_()
    factor = 1 / math.sqrt(x.numel() * 15) if scaled else 1.0
    zero = made.zero_point.flatten()
    torch._fake_quantize_learnable_per_tensor_affine(x, scale, zero, 0, 15, factor).square().sum().backward()
    torch.testing.assert_close(made.log_step.grad.flatten(), scale.detach() * scale.grad, rtol=1e-4, atol=1e-4)


def test_gradient_scale_counts_the_values_that_share_a_scale() -> None:
    x, gradients = drawn(8, 5, 4), {}
    for scale in ("none", "lsq"):
        made = learning(x, Layout(-1), gradient_scale=scale)
        before = made(x)
        before.square().sum().backward()
        gradients[scale] = made.log_step.grad
    torch.testing.assert_close(gradients["lsq"], gradients["none"] / math.sqrt(8 * 5 * 15))
    assert torch.equal(before, frozen(x, "uniform", QuantSpec(4), Layout(-1))(x))


def test_each_step_group_gets_the_gradient_of_its_own_rows() -> None:
    x, group = drawn(4, 6), torch.tensor([2, 0, 2, 0])
    made = quantizer("lsq", QuantSpec(4, steps=3))
    made.observe(drawn(3, 6), torch.tensor([0, 1, 2]))
    made.freeze()
    made.begin_learning(None)
    made(x, group).square().sum().backward()
    together = made.log_step.grad.clone()
    assert together[1].item() == 0
    made.log_step.grad = None
    made(x[[0, 2]], group[[0, 2]]).square().sum().backward()
    torch.testing.assert_close(made.log_step.grad[2], together[2])


def test_twice_differentiable_in_both_modes() -> None:
    x = drawn(6, 5)
    made = learning(x)

    def loss(log_step: Tensor) -> Tensor:
        return functional_call(made, {"log_step": log_step}, (x,)).square().sum()

    start = made.log_step.detach().clone().requires_grad_()
    (first,) = torch.autograd.grad(loss(start), start, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), start)
    assert bool(torch.isfinite(second).all())
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            _, forward = torch.func.jvp(loss, (start.detach(),), (torch.ones_like(start),))
        torch.testing.assert_close(forward, first.sum().detach())


def test_no_step_of_an_optimiser_breaks_the_grid() -> None:
    x = drawn(6, 5).float()
    made = learning(x)
    with torch.no_grad():
        made.log_step.fill_(-200.0)
        assert bool(torch.isfinite(made(x)).all())
    made.harden()
    assert made.scale.item() > 0


@pytest.mark.parametrize("gradient_scale", ["none", "lsq"])
@pytest.mark.parametrize("layout", [PER_TENSOR, Layout(-1)])
def test_activations_a_thousand_times_as_large_are_fitted_alike(layout: Layout, gradient_scale: str) -> None:
    """As many steps of Adam at the same rate change each scale by the same factor."""
    x, factors = drawn(200, 5), []
    for size in (1.0, 1000.0, 1 / 1000):
        made = learning(size * x, layout, QuantSpec(3), gradient_scale=gradient_scale)
        start, optimiser = made.export()["scale"], torch.optim.Adam([made.log_step], lr=0.02, eps=0.0)
        for _ in range(30):
            optimiser.zero_grad()
            (made(size * x) - size * x).square().mean().backward()
            optimiser.step()
        made.harden()
        factors.append(made.scale / start)
    assert float((factors[0] - 1).abs().min()) > 0.05
    for other in factors[1:]:
        torch.testing.assert_close(other, factors[0], rtol=1e-6, atol=0)


def test_the_logarithm_is_a_parameter_only_while_learning() -> None:
    x = drawn(6, 5)
    made = frozen(x, "lsq", QuantSpec(4))
    assert [(group.names, group.kind) for group in made.learnable()] == [(("log_step",), "step")]
    assert not list(made.parameters())
    start = made.export()["scale"]
    made.begin_learning(None)
    assert [name for name, _ in made.named_parameters()] == ["log_step"]
    assert torch.equal(made.export()["scale"], start)
    made.log_step.data.fill_(math.log(2))
    made.begin_learning(None)
    made.harden()
    assert not list(made.parameters())
    assert "scale" in dict(made.named_buffers())
    torch.testing.assert_close(made.export()["scale"], 2 * start)


def test_optimising_the_scale_lowers_the_error() -> None:
    x = drawn(200, 5)
    made = learning(x, spec=QuantSpec(3))
    optimiser = torch.optim.Adam([made.log_step], lr=0.02)
    before = (made(x) - x).square().mean().item()
    for _ in range(60):
        optimiser.zero_grad()
        (made(x) - x).square().mean().backward()
        optimiser.step()
    made.harden()
    assert (made(x) - x).square().mean().item() < 0.9 * before


def test_restoring_ends_the_learning() -> None:
    x = drawn(6, 5)
    made = learning(x)
    state = frozen(2 * x, "lsq", QuantSpec(4)).export()
    made.restore(state)
    assert not made.learning
    assert torch.equal(made.scale, state["scale"])


def test_learning_before_a_range_is_refused() -> None:
    with pytest.raises(CellFailedError, match="before its range was found"):
        quantizer("lsq").begin_learning(None)
