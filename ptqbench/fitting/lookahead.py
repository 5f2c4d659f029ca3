"""One look-ahead step of a unit's trainables, and the derivative of what follows it by whatever weighs the training loss.

    theta*(u) = theta - eta . grad L(theta, u),          eta: a step size for each trainable, which counts as a constant.

Weights u enter theta* through the gradient of L alone, so one vector is all that a function V(theta*) contributes:

    dV / du  =  - d/du < grad L(theta, u), eta . grad V(theta*) >,

a backward pass through the graph of that gradient. V itself is differentiated once, at leaf tensors that hold theta*. L may be
a sum of parts, mini-batches for example: their graphs are then made one after the other, so that a step down the loss of all
training samples takes no more memory than one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

Params = Mapping[str, Tensor]
"""Trainables, or one tensor of the same shape for each of them, by name."""

Scalar = Callable[[Params], Tensor]
"""A scalar as a function of the trainables."""


class LookAhead:
    """One step from `params` down the sum of `parts`, scalars that depend on what weighs them as well.

    `theta` holds the trainables as leaf tensors, `slopes` the gradient of the sum there, `eta` the step sizes: the learning
    rates `rates`, or with `rms` what makes each trainable's step as long as its rate in root mean square, about as far as a
    step of Adam goes.
    """

    def __init__(self, parts: Sequence[Scalar], params: Params, rates: Mapping[str, float], *, rms: bool) -> None:
        self.theta, self.parts = leaves(params), parts
        # The graph of a single part serves the derivatives as well.
        self._kept = [gradients(parts[0](self.theta), self.theta, graph=True)] if len(parts) == 1 else []
        found = self._kept or [gradients(part(self.theta), self.theta) for part in parts]
        self.slopes = {name: torch.stack([own[name].detach() for own in found]).sum(0) for name in self.theta}
        self.eta = _step_sizes(self.slopes, rates, rms=rms)

    @cached_property
    def moving(self) -> tuple[str, ...]:
        """The trainables that the step moves; a look-ahead without any says nothing about the weights."""
        return tuple(name for name, slope in self.slopes.items() if self.eta[name] != 0 and bool(slope.any()))

    def end(self) -> dict[str, Tensor]:
        """theta*, as leaf tensors to differentiate by."""
        return {
            name: (self.theta[name] - self.eta[name] * slope).detach().requires_grad_() for name, slope in self.slopes.items()
        }

    def derivatives(self, pulls: Sequence[Params], unknown: Tensor) -> list[Tensor]:
        """dV / du for a leaf tensor u that weighs the loss, for each V by its gradient at theta*, of all trainables or of some.

        May be called again for other functions.
        """
        found = [torch.zeros_like(unknown) for _ in pulls]
        for slopes in self._graphs():
            for total, pull in zip(found, pulls, strict=True):
                along = torch.stack([(slopes[name] * (self.eta[name] * v)).sum() for name, v in pull.items()]).sum()
                total -= gradients(along, {"": unknown}, keep=True)[""]
        return found

    def derivative(self, pull: Params, unknown: Tensor) -> Tensor:
        """`derivatives` of one function."""
        return self.derivatives([pull], unknown)[0]

    def _graphs(self) -> Iterator[Params]:
        """The gradient of each part with its graph."""
        if self._kept:
            yield from self._kept
        else:
            for part in self.parts:
                yield gradients(part(self.theta), self.theta, graph=True)


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
    sizes = {name: float(slope.square().mean().sqrt()) for name, slope in slopes.items()}
    # Slopes that are not finite give such a step, and then weights that the fit refuses: a diverged unit does not pass for a
    # still one.
    return {name: 0.0 if size == 0 else rates[name] / size for name, size in sizes.items()}
