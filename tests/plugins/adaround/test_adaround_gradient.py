"""Soft weights and the regulariser in closed form, against autograd on what spells them out in double precision."""

from __future__ import annotations

import pytest
import torch
from quantkit import OUT_CHANNEL, frozen
from torch import Tensor
from torch.func import functional_call

from ptqbench.quant.grid import Levels, QuantSpec
from ptqbench_adaround.rounding import (
    Regulariser,
    SoftWeight,
    alpha_of,
    line,
    rectified_sigmoid,
    rounding_regulariser,
    soft_weight,
)

LEVELS = pytest.mark.parametrize("levels", [Levels(2), Levels(4), Levels(8, symmetric=True)], ids=str)
PRECISIONS = pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])


def variables(dtype: torch.dtype, levels: Levels) -> tuple[Tensor, ...]:
    """alpha, floor, scale and zero point: decided and undecided weights, inside, at and beyond the ends of the grid."""
    rng = torch.Generator().manual_seed(1)
    alpha = torch.randn(6, 5, 3, 3, generator=rng, dtype=torch.float64) * 3
    alpha[0] = alpha_of(torch.zeros(5, 3, 3, dtype=torch.float64))
    alpha[1] = alpha_of(torch.ones(5, 3, 3, dtype=torch.float64))
    zero_point = torch.zeros(6, 1, 1, 1) if levels.symmetric else torch.full((6, 1, 1, 1), float(levels.high // 2))
    codes = torch.randint(levels.low - 2, levels.high + 2, alpha.shape, generator=rng)
    scale = torch.rand(6, 1, 1, 1, generator=rng, dtype=torch.float64) + 0.1
    return tuple(x.to(dtype) for x in (alpha, codes - zero_point, scale, zero_point))


def slopes(value: Tensor, alpha: Tensor, seed: int = 2) -> Tensor:
    """Gradient by alpha of a random linear function of `value`."""
    direction = torch.randn(value.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.autograd.grad((value * direction.to(value)).sum(), alpha)[0]


@LEVELS
@PRECISIONS
def test_soft_weights_and_their_slopes(levels: Levels, dtype: torch.dtype, rtol: float) -> None:
    alpha, *grid = variables(dtype, levels)
    alpha.requires_grad_()
    own, stand_in = (weigh(alpha, *line(*grid, levels)) for weigh in (SoftWeight.apply, soft_weight))
    found = slopes(own, alpha)
    torch.testing.assert_close(own, stand_in, rtol=rtol, atol=rtol)
    torch.testing.assert_close(found, slopes(stand_in, alpha), rtol=rtol, atol=0)
    exact = alpha.detach().double().requires_grad_()
    floor, scale, zero_point = (x.double() for x in grid)
    expected = ((floor + rectified_sigmoid(exact) + zero_point).clamp(levels.low, levels.high) - zero_point) * scale
    torch.testing.assert_close(own.double(), expected, rtol=rtol, atol=levels.high * rtol)
    # In double precision the ends are met at other bits: compare slopes where no clamp decides.
    by_alpha = slopes(expected, exact)
    assert 0 < int((by_alpha != 0).sum()) < by_alpha.numel()
    torch.testing.assert_close(found[2:].double(), by_alpha[2:], rtol=rtol, atol=rtol)


@PRECISIONS
@pytest.mark.parametrize("beta", [2.0, 2.5, 11.3, 20.0])
def test_the_regulariser_agrees_with_double_precision(beta: float, dtype: torch.dtype, rtol: float) -> None:
    alpha = torch.linspace(-4, 4, 2001, dtype=torch.float64)
    ours = alpha.to(dtype).requires_grad_()
    exact = ours.detach().double().requires_grad_()
    value, expected = Regulariser.apply(ours, beta, 0.5), 0.5 * rounding_regulariser(exact, beta)
    torch.testing.assert_close(value.double(), expected, rtol=rtol, atol=0)
    torch.testing.assert_close(slopes(value, ours).double(), slopes(expected, exact), rtol=5 * rtol, atol=rtol)


def test_a_variable_in_the_middle_has_no_slope() -> None:
    alpha = torch.zeros(3, requires_grad=True)
    for beta in (2.0, 20.0):
        assert slopes(Regulariser.apply(alpha, beta, 1.0), alpha).tolist() == [0, 0, 0]


def test_closed_forms_may_be_differentiated_again() -> None:
    alpha, *grid = variables(torch.float64, Levels(4))
    # Away from the kinks, where h saturates.
    alpha = (alpha[2:] * 0.2).requires_grad_()
    rest = line(*(x[2:] for x in grid), Levels(4))
    for function in (lambda a: SoftWeight.apply(a, *rest), lambda a: Regulariser.apply(a, 7.5, 0.3)):
        assert torch.autograd.gradcheck(function, (alpha,))
        assert torch.autograd.gradgradcheck(function, (alpha,))


def test_a_quantizer_gives_its_own_variables_and_their_stand_ins_the_same_slopes() -> None:
    w = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    made = frozen(w, "adaround", QuantSpec(4, "channel"), OUT_CHANNEL)
    made.begin_learning(w)
    other = made.alpha.detach().clone().requires_grad_()
    own = made(w).square().sum() + made.penalty(0.6)
    stand_in = functional_call(made, {"alpha": other}, (w,)).square().sum() + made.penalty(0.6, {"alpha": other})
    torch.testing.assert_close(own, stand_in)
    own.backward()
    torch.testing.assert_close(made.alpha.grad, torch.autograd.grad(stand_in, other)[0])
