"""One look-ahead step of a unit's trainables, and the derivative of what follows it by whatever weighs the training loss.

    theta*(u) = theta - eta . grad L(theta, u),          eta: a step size for each trainable, which counts as a constant.

Weights u enter theta* through the gradient of L alone, so one vector is all that a function V(theta*) contributes:

    dV / du  =  - d/du < grad L(theta, u), eta . grad V(theta*) >,

a backward pass through the graph of that gradient. V itself is differentiated once, at leaf tensors that hold theta*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

Params = Mapping[str, Tensor]
"""Trainables, or one tensor of the same shape for each of them, by name."""


@dataclass(frozen=True)
class LookAhead:
    """One step from `theta`, leaf tensors (`leaves`). `slopes`: grad L there with its graph; `eta`: the step sizes."""

    theta: Params
    slopes: Params
    eta: Mapping[str, float]

    @classmethod
    def of(cls, loss: Tensor, theta: Params, rates: Mapping[str, float], *, rms: bool) -> LookAhead:
        """The step down `loss`, a scalar computed from `theta` and from what weighs it.

        Step sizes are the learning rates `rates`; with `rms` each trainable's step is as long as its rate in root mean
        square, about as far as a step of Adam goes.
        """
        slopes = gradients(loss, theta, graph=True)
        return cls(theta, slopes, _step_sizes(slopes, rates, rms=rms))

    @cached_property
    def moving(self) -> tuple[str, ...]:
        """The trainables that the step moves; a look-ahead without any says nothing about the weights."""
        return tuple(name for name, slope in self.slopes.items() if self.eta[name] != 0 and bool(slope.any()))

    def end(self) -> dict[str, Tensor]:
        """theta*, as leaf tensors to differentiate by."""
        return {
            name: (self.theta[name] - self.eta[name] * slope).detach().requires_grad_() for name, slope in self.slopes.items()
        }

    def derivative(self, pull: Params, unknown: Tensor) -> Tensor:
        """dV / du for a leaf tensor u that weighs the loss, from grad V(theta*) of all trainables or of some.

        May be called again for another V: the graph is kept.
        """
        along = torch.stack([(self.slopes[name] * (self.eta[name] * v)).sum() for name, v in pull.items()]).sum()
        return -gradients(along, {"": unknown}, keep=True)[""]


def leaves(params: Params) -> dict[str, Tensor]:
    """The same values as leaf tensors of their own, to differentiate by."""
    return {name: value.detach().requires_grad_() for name, value in params.items()}


def gradients(value: Tensor, params: Params, *, keep: bool = False, graph: bool = False) -> dict[str, Tensor]:
    """Gradients of a scalar by name: zero for tensors that it does not depend on, where autograd gives None or raises.

    `keep` keeps the graph of `value` for another pass, `graph` makes the gradients differentiable as well.
    """
    if not value.requires_grad:
        return {name: torch.zeros_like(p) for name, p in params.items()}
    found = torch.autograd.grad(value, list(params.values()), retain_graph=keep or graph, create_graph=graph, allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(params.items(), found, strict=True)}


def _step_sizes(slopes: Params, rates: Mapping[str, float], *, rms: bool) -> dict[str, float]:
    if not rms:
        return {name: rates[name] for name in slopes}
    sizes = {name: float(slope.detach().square().mean().sqrt()) for name, slope in slopes.items()}
    # Slopes that are not finite give such a step, and then weights that the fit refuses: a diverged unit does not pass for a
    # still one.
    return {name: 0.0 if size == 0 else rates[name] / size for name, size in sizes.items()}
