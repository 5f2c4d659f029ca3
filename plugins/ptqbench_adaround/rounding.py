"""AdaRound's pure functions: the rectified sigmoid, its inverse, soft weights, the regulariser and its schedule.

Soft weights and the regulariser are computed once in every iteration of a fit, over every weight of a unit, and cost as much
as its convolutions on small mini-batches. `SoftWeight` and `Regulariser` have their gradients in closed form, each in a few
passes over the weights; the functions that spell them out stay for variables that are no leaves of their own (a look-ahead's),
and where forward-mode derivatives are asked for.

A soft weight s (clamp(floor + h + z) - z) follows the clamped sigmoid in a straight line, since floor + z is a whole number and
h in [0, 1]: the clamp clips a weight for all h or for none. `line` says the line once, before variables move.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ptqbench.quant.grid import Levels, clamp_gradient, clamp_inclusive

ZETA, GAMMA = 1.1, -0.1
"""Stretch of the sigmoid, so that 0 and 1 are reached at finite variables (AdaRound)."""

SPAN = ZETA - GAMMA

LOW, HIGH = -GAMMA / SPAN, (1 - GAMMA) / SPAN
"""The sigmoid where h reaches 0 and 1."""

LEAST_LOG = -300.0
"""Stands for log2 0 where it is multiplied by an exponent that may be 0; its power is far below what float32 adds to 1."""


def rectified_sigmoid(alpha: Tensor) -> Tensor:
    """h(alpha) = clamp(sigmoid(alpha) (zeta - gamma) + gamma, 0, 1), the share of a step that is added to the floor."""
    return clamp_inclusive(torch.sigmoid(alpha) * SPAN + GAMMA, 0, 1)


def alpha_of(fraction: Tensor) -> Tensor:
    """The variable with h(alpha) = fraction, for fractions in [0, 1]."""
    return -torch.log(SPAN / (fraction - GAMMA) - 1)


def line(floor: Tensor, scale: Tensor, zero_point: Tensor, levels: Levels) -> tuple[Tensor, Tensor]:
    """Offset and slope of each weight by the clamped sigmoid, in the shape of `floor`; the slope is 0 beyond the ends."""
    lowest, highest = levels.low - zero_point, levels.high - zero_point
    slope = scale * SPAN * ((floor >= lowest) & (floor < highest))
    return scale * floor.clamp(lowest, highest) - slope * LOW, slope


def soft_weight(alpha: Tensor, offset: Tensor, slope: Tensor) -> Tensor:
    """s (clamp(floor + h(alpha) + z) - z), what a weight is while its rounding is learned, by its `line`."""
    return offset + slope * clamp_inclusive(torch.sigmoid(alpha), LOW, HIGH)


def rounding_regulariser(alpha: Tensor, beta: float) -> Tensor:
    """Sum of 1 - |2 h(alpha) - 1|^beta over all variables, a scalar: 0 when all are decided (AdaRound)."""
    return (1 - (2 * rectified_sigmoid(alpha) - 1).abs().pow(beta)).sum()


class SoftWeight(torch.autograd.Function):
    """`soft_weight` with its gradient by alpha alone: slope sigmoid'(alpha) where the sigmoid is not clamped.

    The gradient may be differentiated again.
    """

    @staticmethod
    def forward(ctx: Any, alpha: Tensor, offset: Tensor, slope: Tensor) -> Tensor:
        """The soft weight, in the shape of alpha."""
        sigmoid = torch.sigmoid(alpha)
        ctx.save_for_backward(alpha, slope, sigmoid)
        return torch.addcmul(offset, slope, sigmoid.clamp(LOW, HIGH))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """The gradient by alpha."""
        alpha, slope, sigmoid = ctx.saved_tensors
        if torch.is_grad_enabled():
            # The gradient's own dependence on alpha is asked for.
            sigmoid = torch.sigmoid(alpha)
        return _by_alpha(grad * slope, sigmoid), None, None


class Regulariser(torch.autograd.Function):
    """`rounding_regulariser` times a factor, with its gradient -2 factor beta |2 h - 1|^(beta - 2) (2 h - 1) h'(alpha); for
    beta >= 2.

    Powers are taken once and as those of 2, several times as fast. The gradient may be differentiated again.
    """

    @staticmethod
    def forward(ctx: Any, alpha: Tensor, beta: float, factor: float) -> Tensor:
        """The factor times the sum over all variables, a scalar."""
        sigmoid = torch.sigmoid(alpha)
        # 2 h - 1, in which zeta + gamma = 1 leaves no constant but the span.
        side = sigmoid.mul(2 * SPAN).sub_(SPAN).clamp_(-1, 1)
        power = side.square().log2_().clamp_min_(LEAST_LOG).mul_((beta - 2) / 2).exp2_().mul_(side)
        ctx.save_for_backward(alpha, sigmoid, power)
        ctx.beta, ctx.factor = beta, factor
        return side.mul_(power).sub_(1).sum().mul_(-factor)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """The gradient by alpha."""
        alpha, sigmoid, power = ctx.saved_tensors
        if torch.is_grad_enabled():
            again = ctx.factor * rounding_regulariser(alpha, ctx.beta)
            return torch.autograd.grad(again, alpha, grad, create_graph=True)[0], None, None
        return _by_alpha(power * (grad * (-2 * SPAN * ctx.beta * ctx.factor)), sigmoid), None, None


def _by_alpha(by_clamped: Tensor, sigmoid: Tensor) -> Tensor:
    """A gradient by the clamped sigmoid as one by alpha."""
    inside = clamp_gradient(by_clamped, sigmoid, LOW, HIGH)
    return torch.ops.aten.sigmoid_backward(inside, sigmoid)


def beta_at(progress: float, warmup: float, start: float, end: float) -> float:
    """The exponent at `progress` in [0, 1]: `start` until the warm-up ends, then linear down to `end`."""
    left = 1 - max(0.0, progress - warmup) / (1 - warmup)
    return end + (start - end) * max(0.0, left)
