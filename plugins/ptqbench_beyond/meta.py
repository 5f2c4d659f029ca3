"""The derivative of a validation error after one look-ahead step, with respect to whatever weighs the training loss.

    theta*(u) = theta - eta . grad_theta L(theta, u),        meta(u) = V(theta*(u)),        eta: a step size for each trainable.

Since u enters theta* through the gradient of L alone, one vector is all that V contributes:

    d meta / du  =  - d/du < grad_theta L(theta, u), eta . grad V(theta*) >,

a backward pass through the graph of that gradient. For L = mean_i(w_i l_i) this is -<grad l_i, eta . grad V> / B for weight i.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Params = Mapping[str, Tensor]
Loss = Callable[[Params], Tensor]
"""A scalar as a function of the trainables."""


@dataclass(frozen=True)
class LookAhead:
    """`slopes`: the derivative of the validation error at theta* with respect to each unknown. `value`: the error there."""

    slopes: tuple[Tensor, ...]
    value: float


def look_ahead(
    train: Loss, validation: Loss, unknowns: Sequence[Tensor], params: Params, rates: Mapping[str, float], *, rms: bool
) -> LookAhead | None:
    """One look-ahead from `params`; None where it would not move.

    `train` must depend on the `unknowns`, leaf tensors that require gradients. Step sizes are the `rates`; with `rms`, the
    step of each trainable is as long as its rate (root mean square), and its length counts as a constant.
    """
    theta = {name: value.detach().requires_grad_() for name, value in params.items()}
    found = torch.autograd.grad(train(theta), list(theta.values()), create_graph=True, allow_unused=True)
    moving = {name: slope for name, slope in zip(theta, found, strict=True) if slope is not None and bool(slope.any())}
    if not moving:
        return None
    eta = {name: rates[name] / (_rms(slope) if rms else 1.0) for name, slope in moving.items()}
    star = {name: value.detach() for name, value in theta.items()}
    star |= {name: (star[name] - eta[name] * slope.detach()).requires_grad_() for name, slope in moving.items()}
    error = validation(star)
    pull = torch.autograd.grad(error, [star[name] for name in moving], allow_unused=True)
    along = [(slope * (eta[name] * g)).sum() for (name, slope), g in zip(moving.items(), pull, strict=True) if g is not None]
    if not along:
        return None
    slopes = torch.autograd.grad(-torch.stack(along).sum(), list(unknowns), allow_unused=True)
    return LookAhead(
        tuple(torch.zeros_like(u) if s is None else s for u, s in zip(unknowns, slopes, strict=True)), float(error.detach())
    )


def _rms(slope: Tensor) -> float:
    return float(slope.detach().square().mean().sqrt())
