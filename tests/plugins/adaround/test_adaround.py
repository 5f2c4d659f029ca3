"""AdaRound: start, gradients, regulariser, hardening."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from quantkit import OUT_CHANNEL, PER_TENSOR, frozen
from torch import Tensor
from torch.func import functional_call

from ptqbench.errors import CellFailedError
from ptqbench.quant.grid import Layout, QuantSpec
from ptqbench_adaround import AdaRoundOptions
from ptqbench_adaround.rounding import GAMMA, ZETA, alpha_of, beta_at, rectified_sigmoid

LAYOUTS = pytest.mark.parametrize("layout", [PER_TENSOR, OUT_CHANNEL])


def weight(seed: int = 0) -> Tensor:
    return torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def learning(w: Tensor, layout: Layout = OUT_CHANNEL, ranges: str = "minmax", bits: int = 4, **options: Any) -> Any:
    """An AdaRound quantizer of w that has begun to learn."""
    made = frozen(w, "adaround", QuantSpec(bits, "channel"), layout, ranges, **options)
    made.begin_learning(w)
    return made


def test_rectified_sigmoid_and_its_inverse() -> None:
    fraction = torch.linspace(0, 1, 101, dtype=torch.float64)
    torch.testing.assert_close(rectified_sigmoid(alpha_of(fraction)), fraction, rtol=0, atol=1e-15)
    assert rectified_sigmoid(torch.tensor([-9.0, 9.0])).tolist() == [0, 1]
    assert (ZETA, GAMMA) == (1.1, -0.1)


@LAYOUTS
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_soft_value_at_the_start_is_the_weight_itself(layout: Layout, bits: int) -> None:
    w = weight()
    made = learning(w, layout, bits=bits)
    torch.testing.assert_close(rectified_sigmoid(made.alpha), w / made._grid(w, None)[0] - made.floor)
    # Zero points are whole numbers, so up to half a step is clipped at one end of the range.
    scale, zero = made._grid(w, None)
    inside = w.clamp((made.spec.levels.low - zero) * scale, (made.spec.levels.high - zero) * scale)
    torch.testing.assert_close(made(w), inside)


@LAYOUTS
@pytest.mark.parametrize("ranges", ["minmax", "mse"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_hard_value_at_the_start_is_rounding_to_nearest(layout: Layout, ranges: str, bits: int) -> None:
    w = weight()
    nearest = frozen(w, "uniform", QuantSpec(bits, "channel"), layout, ranges)
    made = learning(w, layout, ranges, bits)
    made.harden()
    torch.testing.assert_close(made(w), nearest(w))
    assert torch.equal(made.export(w)["codes"], nearest.export(w)["codes"])


def test_before_learning_it_rounds_to_nearest() -> None:
    w = weight()
    made = frozen(w, "adaround", QuantSpec(4, "channel"), OUT_CHANNEL)
    assert torch.equal(made(w), frozen(w, "uniform", QuantSpec(4, "channel"), OUT_CHANNEL)(w))
    assert made.penalty(1.0) is None
    assert [(group.names, group.kind) for group in made.learnable()] == [(("alpha",), "rounding")]


def test_forward_mode_agrees_with_reverse_mode() -> None:
    w = weight()
    made = learning(w)
    alpha = made.alpha.detach() * 0.7

    def loss(alpha: Tensor) -> Tensor:
        return functional_call(made, {"alpha": alpha}, (w,)).square().sum() + made.penalty(0.9, {"alpha": alpha})

    tangent = torch.randn_like(alpha)
    _, forward = torch.func.jvp(loss, (alpha,), (tangent,))
    torch.testing.assert_close(forward, (torch.func.grad(loss)(alpha) * tangent).sum())
    with torch.no_grad():
        torch.testing.assert_close(torch.func.jvp(loss, (alpha,), (tangent,))[1], forward)


def test_only_the_rounding_variables_get_a_gradient() -> None:
    w = weight().requires_grad_()
    made = learning(w)
    made(w).square().sum().backward()
    assert w.grad is None
    assert bool((made.alpha.grad != 0).any())


def test_penalty_waits_for_the_warm_up_and_falls_to_nothing_when_decided() -> None:
    made = learning(weight())
    assert made.penalty(0.0) is None
    assert made.penalty(0.19) is None
    by_hand = 0.01 * (1 - (2 * rectified_sigmoid(made.alpha) - 1).abs() ** 20).sum()
    torch.testing.assert_close(made.penalty(0.2), by_hand)
    assert made.penalty(1.0) < made.penalty(0.2)
    made.alpha.data.copy_(made.alpha.sign() * 5)
    assert made.penalty(1.0).item() == 0


def test_penalty_takes_replaced_variables_and_options() -> None:
    made = learning(weight(), round_weight=0.5, warmup=0.0, beta_start=4.0, beta_end=4.0)
    other = made.alpha.detach() * 0.1
    expected = 0.5 * (1 - (2 * rectified_sigmoid(other) - 1).abs() ** 4).sum()
    torch.testing.assert_close(made.penalty(0.0, {"alpha": other}), expected)


def test_schedule_is_linear_after_the_warm_up() -> None:
    assert [beta_at(p, 0.2, 20, 2) for p in (0, 0.2, 0.6, 1)] == pytest.approx([20, 20, 11, 2])
    assert beta_at(0.5, 0.0, 10, 2) == 6
    with pytest.raises(ValidationError, match="beta_end must not exceed"):
        AdaRoundOptions(beta_start=3.0, beta_end=4.0)


@LAYOUTS
def test_hardening_drops_the_variables_and_keeps_their_decisions(layout: Layout) -> None:
    w = weight()
    made = learning(w, layout)
    made.alpha.data.copy_(torch.randn(w.shape, generator=torch.Generator().manual_seed(5)))
    scale, zero = made._grid(w, None)
    expected = ((made.floor + (made.alpha >= 0) + zero).clamp(0, 15) - zero) * scale
    early = made.export(w)["codes"]
    made.harden()
    assert torch.equal(made(w), expected.detach())
    assert torch.equal(made.export(w)["codes"], early)
    assert not list(made.parameters())
    assert "floor" not in made.state_dict()
    assert made.penalty(1.0) is None


def test_a_restored_quantizer_keeps_learned_codes() -> None:
    w = weight()
    made = learning(w)
    made.alpha.data.neg_()
    made.harden()
    again = frozen(w * 2, "adaround", QuantSpec(4, "channel"), OUT_CHANNEL)
    again.restore(made.export(w))
    assert torch.equal(again(w), made(w))
    assert torch.equal(again.export(w)["codes"], made.export(w)["codes"])
    again.begin_learning(w)
    torch.testing.assert_close(again.alpha.detach(), learning(w).alpha.detach())


def test_learning_needs_a_weight_and_a_range() -> None:
    made = frozen(weight(), "adaround", QuantSpec(4, "channel"), OUT_CHANNEL)
    with pytest.raises(ValueError, match="given none"):
        made.begin_learning(None)
    made.scale = torch.empty(0)
    with pytest.raises(CellFailedError, match="before its range"):
        made.begin_learning(weight())
