"""Forward-mode rules for operations of which some operands have no tangent, against torch's own, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.autograd.forward_ad as fwAD
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ptqbench.fitting.lookahead import slope_along
from ptqbench.fitting.one_sided import OneSided


def drawn(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


A, B, SMALL, DOUBLE = drawn(3, 4, seed=0), drawn(3, 4, seed=1), drawn(4, seed=2), drawn(3, 4, seed=3, dtype=torch.float64)
MASK, BIAS = drawn(3, 4, seed=4) > 0, drawn(3, seed=5)

OPERATIONS: dict[str, tuple[Callable[..., Tensor], tuple[Any, ...]]] = {
    "sum": (lambda a, b: a + b, (A, B)),
    "difference": (lambda a, b: a - b, (A, B)),
    "product": (lambda a, b: a * b, (A, B)),
    "quotient": (lambda a, b: a / b, (A, B)),
    "functions": (lambda a, b: torch.div(torch.mul(torch.sub(torch.add(a, b), b), b), b), (A, B)),
    "with fewer axes": (lambda a, b: (a + b) * b - b, (SMALL, A)),
    "in double precision": (lambda a, b: a + b * a, (A, DOUBLE)),
    "by whole numbers": (lambda a, b: a * b + b, (A, torch.arange(4))),
    "with numbers": (lambda a: (2 * a - 1) / 3 + (1 - a) * 0.5 + 1 / a, (A,)),
    "with a factor": (lambda a, b: torch.add(a, b, alpha=2), (A, B)),
    "choice": (lambda a, b: torch.where(MASK, a, b), (A, B)),
    "choice of a number": (lambda a: torch.where(MASK, a, 1.0) + torch.where(MASK, 0.0, a), (A,)),
    "linear": (F.linear, (A, B, BIAS)),
    "linear on more axes": (F.linear, (drawn(2, 3, 4, seed=6), B, BIAS)),
    "linear without bias": (lambda x, w: F.linear(x, w), (A, B)),
    "convolution": (lambda x, w: F.conv2d(x, w, BIAS, 2, 1), (drawn(2, 4, 6, 5, seed=7), drawn(3, 4, 3, 3, seed=8))),
    "convolution on one axis": (lambda x, w: F.conv1d(x, w), (drawn(2, 4, 6, seed=7), drawn(3, 4, 3, seed=8))),
    "convolution with a bias that moves": (F.conv2d, (drawn(2, 4, 6, 5, seed=7), drawn(3, 4, 3, 3, seed=8), BIAS)),
    "products of matrices": (lambda a, b: a @ b.mT @ (a.matmul(b.mT)), (A, B)),
}


def moved(operation: Callable[..., Tensor], operands: tuple[Any, ...], moving: set[int], mode: Any) -> tuple[Tensor, Tensor]:
    """The value and the tangent, where the operands at some places have one."""
    with fwAD.dual_level(), mode:
        duals = [fwAD.make_dual(x, drawn(*x.shape, seed=9).to(x)) if i in moving else x for i, x in enumerate(operands)]
        value, tangent = fwAD.unpack_dual(operation(*duals))
        assert tangent is not None
        return value.clone(), tangent.clone()


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", OPERATIONS)
def test_values_and_tangents_are_those_of_torch(name: str) -> None:
    operation, operands = OPERATIONS[name]
    places = [i for i, x in enumerate(operands) if x.is_floating_point()]
    for moving in [{i} for i in places] + [set(places), set(places[:2])]:
        for found, wanted in zip(*(moved(operation, operands, moving, m) for m in (OneSided(), nullcontext())), strict=True):
            assert found.dtype == wanted.dtype
            assert torch.equal(found, wanted)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("moving", [{0}, {1}, {0, 1}, {2}])
def test_a_group_norms_tangent_is_torchs_within_rounding(moving: set[int]) -> None:
    operands = drawn(2, 6, 4, 3, seed=1), drawn(6, seed=2), drawn(6, seed=3)

    def norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.group_norm(x, 3, weight, bias, 1e-3) + F.group_norm(x[:, :, 0].mT.contiguous().mT, 2)[:, :, None]

    found, wanted = (moved(norm, operands, moving, mode) for mode in (OneSided(), nullcontext()))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("given", [(2,), (2, None, None), (2, None, None, 1e-5, True)])
def test_a_group_norm_may_be_called_under_either_name(given: tuple[Any, ...]) -> None:
    x, t = torch.randn(2, 2, 4, 3, 3)
    slope = slope_along(lambda p: torch.group_norm(p["x"], *given), {"x": x}, {"x": t})
    expected = slope_along(lambda p: F.group_norm(p["x"], 2), {"x": x}, {"x": t})
    assert torch.equal(slope, expected) and bool(slope.any())
    named = slope_along(lambda p: torch.group_norm(input=p["x"], num_groups=2), {"x": x}, {"x": t})
    assert torch.equal(named, expected)


def test_a_result_that_changes_in_place_leaves_its_operand_alone() -> None:
    def operation(a: Tensor) -> Tensor:
        (a + 1).mul_(3)
        return a * 1

    assert torch.equal(moved(operation, (A,), {0}, OneSided())[1], drawn(3, 4, seed=9))


def test_rules_reach_into_other_modes() -> None:
    class Doubled(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return 2 * func(*args, **(kwargs or {}))

    def operation(a: Tensor) -> Tensor:
        with Doubled():
            return a + B

    assert torch.equal(moved(operation, (A,), {0}, OneSided())[1], 2 * drawn(3, 4, seed=9))


def test_tangents_may_be_differentiated_by_operands_without_one() -> None:
    weights = B.clone().requires_grad_()
    with fwAD.dual_level(), OneSided():
        tangent = fwAD.unpack_dual((weights * fwAD.make_dual(A, SMALL.expand(3, 4).clone())).sum()).tangent
        assert tangent is not None
        (found,) = torch.autograd.grad(tangent, weights)
    assert torch.equal(found, SMALL.expand(3, 4))
