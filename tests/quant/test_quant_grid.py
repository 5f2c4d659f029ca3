"""Fake quantization against torch's own operators, and how tensors map to rows of parameters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ptqbench.quant.grid import (
    Layout,
    Levels,
    clamp_gradient,
    clamp_inclusive,
    codes_of,
    fake_quantize,
    round_through,
)

SHAPE = (6, 5, 3, 4)


def off_ties(x: Tensor, scale: Tensor) -> Tensor:
    """x moved where x / scale is at least 0.02 away from a half: implementations may round ties either way."""
    steps = x / scale
    near = (steps - steps.floor() - 0.5).abs() < 0.02
    return torch.where(near, (steps.floor() + 0.3) * scale, x)


def drawn(seed: int = 0) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
def test_per_tensor_matches_torch_with_its_gradient(bits: int, symmetric: bool) -> None:
    levels = Levels(bits, symmetric)
    scale = torch.tensor(4.0 / levels.high)
    zero = torch.tensor(0.0 if symmetric else float(2 ** (bits - 1)))
    x, y = (off_ties(drawn(), scale).requires_grad_() for _ in range(2))
    ours = fake_quantize(x, scale, zero, levels)
    theirs = torch.fake_quantize_per_tensor_affine(y, float(scale), int(zero), levels.low, levels.high)
    torch.testing.assert_close(ours, theirs)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad)


@pytest.mark.parametrize("axis", [0, 1])
def test_per_channel_matches_torch_with_its_gradient(axis: int) -> None:
    levels, layout = Levels(4), Layout(axis)
    scale = torch.linspace(0.2, 0.7, SHAPE[axis])
    zero = torch.arange(SHAPE[axis]).float() + 4
    x = off_ties(drawn(), layout.spread(scale[None], drawn(), None)).requires_grad_()
    y = x.detach().clone().requires_grad_()
    ours = fake_quantize(x, layout.spread(scale[None], x, None), layout.spread(zero[None], x, None), levels)
    theirs = torch.fake_quantize_per_channel_affine(y, scale, zero.to(torch.int32), axis, levels.low, levels.high)
    torch.testing.assert_close(ours, theirs)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_scale_gradient_matches_torchs_learnable_operator(bits: int) -> None:
    levels = Levels(bits)
    start = torch.tensor([4.0 / levels.high])
    zero = torch.tensor([float(2 ** (bits - 1))])
    x, y = (off_ties(drawn(), start).requires_grad_() for _ in range(2))
    s, r = start.clone().requires_grad_(), start.clone().requires_grad_()
    ours = fake_quantize(x, s, zero, levels)
    theirs = torch._fake_quantize_learnable_per_tensor_affine(y, r, zero, levels.low, levels.high, 1.0)
    torch.testing.assert_close(ours, theirs)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    torch.testing.assert_close(s.grad, r.grad, rtol=1e-4, atol=1e-3)


def test_scale_gradient_per_channel_matches_torchs_learnable_operator() -> None:
    levels, layout = Levels(4), Layout(1)
    start, zero = torch.linspace(0.2, 0.7, SHAPE[1]), torch.full((SHAPE[1],), 8.0)
    x = off_ties(drawn(), layout.spread(start[None], drawn(), None))
    s, r = start.clone().requires_grad_(), start.clone().requires_grad_()
    fake_quantize(x, layout.spread(s[None], x, None), zero[0], levels).square().sum().backward()
    out = torch._fake_quantize_learnable_per_channel_affine(x, r, zero, 1, levels.low, levels.high, 1.0)
    out.square().sum().backward()
    torch.testing.assert_close(s.grad, r.grad, rtol=1e-4, atol=1e-3)


def test_the_ends_of_the_grid_are_inside_it() -> None:
    x = torch.tensor([-0.6, -0.4, 0.0, 3.0, 3.4, 3.6], requires_grad=True)
    fake_quantize(x, torch.tensor(1.0), torch.tensor(0.0), Levels(2)).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 15), (-128, 127)])
def test_the_gradient_of_a_clamp_is_that_of_autograd_also_at_its_ends(low: int, high: int, dtype: torch.dtype) -> None:
    ends = torch.tensor([float(low), float(high)], dtype=dtype)
    outside = torch.nextafter(ends, torch.tensor([-torch.inf, torch.inf], dtype=dtype))
    x = torch.cat([ends, outside, torch.linspace(low - 1, high + 1, 50, dtype=dtype)]).requires_grad_()
    grad = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    (expected,) = torch.autograd.grad(clamp_inclusive(x, low, high), x, grad)
    assert expected[:4].ne(0).tolist() == [True, True, False, False]
    assert torch.equal(clamp_gradient(grad, x.detach(), low, high), expected)


def test_rounding_is_half_to_even_and_exact() -> None:
    x = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.6, 1e6 + 0.25])
    assert torch.equal(round_through(x), torch.round(x))
    assert round_through(x).tolist()[:6] == [-2, -2, 0, 0, 2, 2]
    many = torch.randn(100_000, generator=torch.Generator().manual_seed(1)) * 100
    assert torch.equal(round_through(many), torch.round(many))


def test_straight_through_in_forward_mode_and_twice() -> None:
    x = torch.linspace(-2, 2, 9, dtype=torch.float64) + 0.1
    scale, zero, levels = torch.tensor(0.3, dtype=torch.float64), torch.tensor(4.0), Levels(3)

    def loss(x: Tensor, s: Tensor) -> Tensor:
        return (fake_quantize(x, s, zero, levels) ** 2).sum()

    tangents = torch.ones_like(x), torch.ones_like(scale)
    _, forward = torch.func.jvp(loss, (x, scale), tangents)
    leaves = x.clone().requires_grad_(), scale.clone().requires_grad_()
    first = torch.autograd.grad(loss(*leaves), leaves, create_graph=True)
    torch.testing.assert_close(forward, sum((g * t).sum() for g, t in zip(first, tangents, strict=True)))
    second = torch.autograd.grad(first[0].sum(), leaves)
    assert all(bool(torch.isfinite(g).all()) for g in second)


def test_codes_are_those_of_the_quantized_values() -> None:
    for levels in (Levels(4), Levels(8, symmetric=True)):
        scale, zero = torch.tensor(0.37), torch.tensor(0.0 if levels.symmetric else 5.0)
        codes = codes_of(drawn(), scale, zero, levels)
        assert codes.dtype == torch.int16
        assert levels.low <= int(codes.min())
        assert int(codes.max()) <= levels.high
        assert torch.equal((codes - zero) * scale, fake_quantize(drawn(), scale, zero, levels))


def test_from_range_covers_the_range_and_keeps_zero() -> None:
    lo, hi = torch.tensor([-1.0, 2.0, -3.0, 0.0]), torch.tensor([1.0, 4.0, -2.0, 0.0])
    for levels in (Levels(8), Levels(8, symmetric=True)):
        scale, zero = levels.from_range(lo, hi)
        assert bool((scale > 0).all())
        at_zero = fake_quantize(torch.zeros(4), scale, zero, levels)
        assert torch.equal(at_zero, torch.zeros(4))
        for end in (lo, hi):
            assert bool(((fake_quantize(end, scale, zero, levels) - end).abs() <= scale).all())


def test_rows_hold_one_channel_each() -> None:
    x = drawn()
    assert Layout().rows(x).shape == (1, x.numel())
    for axis in (0, 1, -1):
        rows = Layout(axis).rows(x)
        assert torch.equal(rows[2], x.select(axis, 2).flatten())


def test_spread_gives_each_row_the_parameters_of_its_step() -> None:
    table, x = torch.tensor([[1.0], [2.0], [3.0]]), torch.zeros(4, 2, 2, 2)
    group = torch.tensor([2, 0, 1, 1])
    assert Layout().spread(table, x, group).flatten().tolist() == [3, 1, 2, 2]
    twice = torch.zeros(8, 5)
    assert Layout().spread(table, twice, group).flatten().tolist() == [3, 3, 1, 1, 2, 2, 2, 2]


def test_spread_by_step_and_channel() -> None:
    table, x = torch.arange(6.0).reshape(2, 3), torch.zeros(4, 7, 3)
    spread = Layout(-1).spread(table, x, torch.tensor([0, 1, 1, 0]))
    assert spread.shape == (4, 1, 3)
    assert torch.equal(spread[:, 0], table[[0, 1, 1, 0]])


def test_rows_that_do_not_divide_are_refused() -> None:
    table = torch.ones(2, 1)
    with pytest.raises(ValueError, match="do not divide"):
        Layout().spread(table, torch.zeros(5, 2), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="without a step"):
        Layout().spread(table, torch.zeros(4, 2), None)
