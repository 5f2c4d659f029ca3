"""AdaRound's pure functions: the rectified sigmoid, its inverse, the regulariser and its schedule."""

from __future__ import annotations

import torch
from torch import Tensor

from ptqbench.quant.grid import clamp_inclusive

ZETA, GAMMA = 1.1, -0.1
"""Stretch of the sigmoid, so that 0 and 1 are reached at finite variables (AdaRound)."""


def rectified_sigmoid(alpha: Tensor) -> Tensor:
    """h(alpha) = clamp(sigmoid(alpha) (zeta - gamma) + gamma, 0, 1), the share of a step that is added to the floor."""
    return clamp_inclusive(torch.sigmoid(alpha) * (ZETA - GAMMA) + GAMMA, 0, 1)


def alpha_of(fraction: Tensor) -> Tensor:
    """The variable with h(alpha) = fraction, for fractions in [0, 1]."""
    return -torch.log((ZETA - GAMMA) / (fraction - GAMMA) - 1)


def rounding_regulariser(alpha: Tensor, beta: float) -> Tensor:
    """Sum of 1 - |2 h(alpha) - 1|^beta over all variables, a scalar: 0 when all are decided (AdaRound)."""
    return (1 - (2 * rectified_sigmoid(alpha) - 1).abs().pow(beta)).sum()


def beta_at(progress: float, warmup: float, start: float, end: float) -> float:
    """The exponent at `progress` in [0, 1]: `start` until the warm-up ends, then linear down to `end`."""
    left = 1 - max(0.0, progress - warmup) / (1 - warmup)
    return end + (start - end) * max(0.0, left)
