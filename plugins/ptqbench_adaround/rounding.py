"""AdaRound's pure functions: the rectified sigmoid, its inverse, soft weights, the regulariser and its schedule.

Soft weights and the regulariser are computed once in every iteration of a fit, over every weight of a unit, and cost as much
as its convolutions on small mini-batches. `SoftWeight` and `Regulariser` have their gradients in closed form, each in a few
passes over the weights; the functions that spell them out stay for variables that are no leaves of their own (a look-ahead's),
and where forward-mode derivatives are asked for.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ptqbench.quant.grid import Levels, clamp_gradient, clamp_inclusive

ZETA, GAMMA = 1.1, -0.1
"""Stretch of the sigmoid, so that 0 and 1 are reached at finite variables (AdaRound)."""

SPAN = ZETA - GAMMA

LEAST_LOG = -200.0
"""Stands for log 0 where it is multiplied by an exponent that may be 0; its exponential is far below what float32 adds to 1."""


def rectified_sigmoid(alpha: Tensor) -> Tensor:
    """h(alpha) = clamp(sigmoid(alpha) (zeta - gamma) + gamma, 0, 1), the share of a step that is added to the floor."""
    return clamp_inclusive(torch.sigmoid(alpha) * SPAN + GAMMA, 0, 1)


def alpha_of(fraction: Tensor) -> Tensor:
    """The variable with h(alpha) = fraction, for fractions in [0, 1]."""
    return -torch.log(SPAN / (fraction - GAMMA) - 1)


def soft_weight(alpha: Tensor, floor: Tensor, scale: Tensor, zero_point: Tensor, levels: Levels) -> Tensor:
    """s (clamp(floor + h(alpha) + z) - z), what a weight is while its rounding is learned."""
    codes = clamp_inclusive(floor + rectified_sigmoid(alpha) + zero_point, levels.low, levels.high)
    return (codes - zero_point) * scale


def rounding_regulariser(alpha: Tensor, beta: float) -> Tensor:
    """Sum of 1 - |2 h(alpha) - 1|^beta over all variables, a scalar: 0 when all are decided (AdaRound)."""
    return (1 - (2 * rectified_sigmoid(alpha) - 1).abs().pow(beta)).sum()


class SoftWeight(torch.autograd.Function):
    """`soft_weight`, the same bits, with its gradient by alpha alone: s h'(alpha) where neither clamp clips.

    The gradient may be differentiated again.
    """

    @staticmethod
    def forward(ctx: Any, alpha: Tensor, floor: Tensor, scale: Tensor, zero_point: Tensor, levels: Levels) -> Tensor:
        """The soft weight, in the shape of alpha."""
        sigmoid, stretched = _stretched(alpha)
        codes = stretched.clamp(0, 1).add_(floor).add_(zero_point)
        ctx.save_for_backward(alpha, scale, sigmoid, stretched, codes)
        ctx.levels = levels
        return codes.clamp(levels.low, levels.high).sub_(zero_point).mul_(scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        """The gradient by alpha."""
        alpha, scale, sigmoid, stretched, codes = ctx.saved_tensors
        if torch.is_grad_enabled():
            # The gradient's own dependence on alpha is asked for.
            sigmoid = torch.sigmoid(alpha)
        by_share = clamp_gradient(grad * scale, codes, ctx.levels.low, ctx.levels.high)
        return _by_alpha(by_share, sigmoid, stretched), None, None, None, None


class Regulariser(torch.autograd.Function):
    """`rounding_regulariser`, with its gradient -2 beta |2 h - 1|^(beta - 2) (2 h - 1) h'(alpha); for beta >= 2.

    Powers are taken once and as exponentials of logarithms, four times as fast. The gradient may be differentiated again.
    """

    @staticmethod
    def forward(ctx: Any, alpha: Tensor, beta: float) -> Tensor:
        """The sum over all variables, a scalar."""
        sigmoid, stretched = _stretched(alpha)
        side = stretched.clamp(0, 1).mul_(2).sub_(1)
        power = side.square().log_().clamp_min_(LEAST_LOG).mul_((beta - 2) / 2).exp_().mul_(side)
        ctx.save_for_backward(alpha, sigmoid, stretched, power)
        ctx.beta = beta
        return side.mul_(power).neg_().add_(1).sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """The gradient by alpha."""
        alpha, sigmoid, stretched, power = ctx.saved_tensors
        if torch.is_grad_enabled():
            return torch.autograd.grad(rounding_regulariser(alpha, ctx.beta), alpha, grad, create_graph=True)[0], None
        return _by_alpha(power * (grad * (-2 * ctx.beta)), sigmoid, stretched), None


def _stretched(alpha: Tensor) -> tuple[Tensor, Tensor]:
    """The sigmoid, and the sigmoid stretched beyond 0 and 1."""
    sigmoid = torch.sigmoid(alpha)
    return sigmoid, sigmoid.mul(SPAN).add_(GAMMA)


def _by_alpha(by_share: Tensor, sigmoid: Tensor, stretched: Tensor) -> Tensor:
    """A gradient by h(alpha) as one by alpha."""
    inside = clamp_gradient(by_share, stretched, 0, 1)
    return torch.ops.aten.sigmoid_backward(inside, sigmoid).mul_(SPAN)


def beta_at(progress: float, warmup: float, start: float, end: float) -> float:
    """The exponent at `progress` in [0, 1]: `start` until the warm-up ends, then linear down to `end`."""
    left = 1 - max(0.0, progress - warmup) / (1 - warmup)
    return end + (start - end) * max(0.0, left)
