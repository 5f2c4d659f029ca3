"""The derivative of a validation error after one look-ahead step, with respect to what weighs the training loss.

    theta*(u) = theta - eta . grad_theta L(theta, u),        meta(u) = V(theta*(u)),

    d meta / du  =  - d/du < grad_theta L(theta, u), eta . grad V(theta*) >,        eta: a step size for each trainable.

one backward pass through the graph of that gradient (`ptqbench.fitting.lookahead`). For L = mean_i(w_i l_i) this is
-<grad l_i, eta . grad V> / B for weight i.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ptqbench.fitting.lookahead import LookAhead, Params, Scalar, gradients


@dataclass(frozen=True)
class MetaGradient:
    """`slope`: the derivative of the validation error at theta* with respect to the unknown. `value`: the error there."""

    slope: Tensor
    value: float


def meta_gradient(
    train: Scalar, validation: Scalar, unknown: Tensor, params: Params, rates: Mapping[str, float], *, rms: bool
) -> MetaGradient | None:
    """The meta loss's derivative by `unknown`, a leaf tensor that `train` depends on; None where the look-ahead vanishes.

    `rates` are the learning rates of the trainables. With `rms` each trainable's look-ahead is as long as its rate in root
    mean square; its length counts as a constant.
    """
    ahead = LookAhead([train], params, rates, rms=rms)
    if not ahead.moving:
        return None
    star = ahead.end()
    error = validation(star)
    # Trainables that stand still need no backward pass.
    pull = gradients(error, {name: star[name] for name in ahead.moving})
    return MetaGradient(ahead.derivative(pull, unknown), float(error.detach()))
