"""Forward mode for operations between numbers with a tangent and numbers without.

Torch's own rules put a tensor of zeros that is not in memory in place of a missing tangent, and infer what comes of it by rules
written in Python: half a millisecond for each operation, thirty times the operation itself in a small unit; convolutions and
products of matrices multiply by the zeros. Here the terms of missing tangents are left out. What remains are the same
operations in the same order, and so the same bits. A group norm's derivative, which torch spells out in twenty times the norm's
own time, has a closed form here, and other last bits.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import torch
import torch.autograd.forward_ad as fwAD
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

Rule = Callable[[Tensor, Any], Tensor]
"""What the tangent of one operand adds to that of the result, by the values of all operands; the result's shape or smaller."""


class OneSided(TorchFunctionMode):
    """Meanwhile sums, differences, products, quotients, choices and linear maps have these rules where an operand has no
    tangent, and group norms where their input alone has one. All else, operations in place among it, has torch's."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (F.group_norm, torch.group_norm):
            func, args, kwargs = torch.group_norm, _in_order(*args, **(kwargs or {})), None
        rules = _RULES.get(func)
        if rules is None or kwargs:
            return func(*args, **(kwargs or {}))
        values, tangents = zip(
            *(fwAD.unpack_dual(arg) if isinstance(arg, Tensor) else (arg, None) for arg in args), strict=True
        )
        moving = [place for place, tangent in enumerate(tangents) if tangent is not None]
        if not moving or not rules.keys() >= set(moving) or len(moving) == len(rules) > 1:
            return func(*args)
        value = func(*values)
        tangent = reduce(operator.add, [rules[place](tangents[place], values) for place in moving])
        return fwAD.make_dual(value, tangent.to(value.dtype).expand_as(value))


def _copy(tangent: Tensor, _: Any) -> Tensor:
    # What changes the result in place changes its tangent as well, and must not change the operand's.
    return tangent.clone()


def _in_order(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> tuple[Any, ...]:
    """The arguments of `torch.nn.functional.group_norm`, or `torch.group_norm`, which it calls, under their names: the last is
    the latter's, and decides nothing."""
    return input, num_groups, weight, bias, eps


def _through_group_norm(tangent: Tensor, values: Any) -> Tensor:
    """gamma / sigma (t - mean(t) - n mean(n t)), with means over a group and n the normalised values (Wu and He, Group
    Normalization, ECCV 2018, section 3)."""
    x, groups, weight, _, eps = values
    rows = len(x) * groups
    wide = x.contiguous()
    normal, _, inverse = torch.native_group_norm(wide, None, None, len(x), x.shape[1], x[0, 0].numel(), groups, eps)
    moved, normal = tangent.reshape(rows, -1), normal.view(rows, -1)
    along = torch.linalg.vecdot(normal, moved)[:, None] / normal.shape[1]
    found = (moved - moved.mean(1, keepdim=True)).addcmul_(normal, along, value=-1).mul_(inverse.view(rows, 1)).view(x.shape)
    return found if weight is None else found.mul_(weight.view(-1, *[1] * (x.dim() - 2)))


def _convolution(function: Callable[..., Tensor]) -> Mapping[int, Rule]:
    """The result's bias, and all that comes after it, is as it is."""
    return {
        0: lambda t, values: function(t, values[1], None, *values[3:]),
        1: lambda t, values: function(values[0], t, None, *values[3:]),
    }


_MATRICES: Mapping[int, Rule] = {0: lambda t, values: t @ values[1], 1: lambda t, values: values[0] @ t}

_BY_NAME: Mapping[str, Mapping[int, Rule]] = {
    "add": {0: _copy, 1: _copy},
    "sub": {0: _copy, 1: lambda t, _: -t},
    "mul": {0: lambda t, values: t * values[1], 1: lambda t, values: values[0] * t},
    "div": {0: lambda t, values: t / values[1], 1: lambda t, values: -t * (values[0] / values[1]) / values[1]},
}

_RULES: Mapping[Any, Mapping[int, Rule]] = {
    getattr(owner, name): rules for name, rules in _BY_NAME.items() for owner in (torch, Tensor)
} | {
    torch.where: {1: lambda t, values: torch.where(values[0], t, 0), 2: lambda t, values: torch.where(values[0], 0, t)},
    F.linear: {2: _copy, 0: lambda t, values: F.linear(t, values[1]), 1: lambda t, values: F.linear(values[0], t)},
    torch.group_norm: {0: _through_group_norm},
    **{function: _convolution(function) for function in (F.conv1d, F.conv2d)},
    **{function: _MATRICES for function in (torch.matmul, Tensor.matmul, Tensor.__matmul__)},
}
"""By operation, and by the operand that has a tangent."""
