"""One look-ahead step of a unit's trainables, and the derivative of what follows it by whatever weighs the training loss.

    theta*(u) = theta - eta . grad L(theta, u),          eta: a step size for each trainable, which counts as a constant.

Weights u enter theta* through the gradient of L alone, so one vector is all that a function V(theta*) contributes:

    dV / du  =  - d/du < grad L(theta, u), eta . grad V(theta*) >.

The product is the slope of L along a direction, which forward-mode differentiation has in one pass without any graph through
the unit (`slope_along`); how it depends on u is then read off the few operations that weigh the samples. V itself is
differentiated once, at leaf tensors that hold theta*. L may be a sum of parts, mini-batches for example, that are in memory
one at a time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property

import torch
import torch.autograd.forward_ad as fwAD
from torch import Tensor

from ptqbench.errors import CellFailedError
from ptqbench.fitting.one_sided import OneSided

Params = Mapping[str, Tensor]
"""Trainables, or one tensor of the same shape for each of them, by name."""

Scalar = Callable[[Params], Tensor]
"""A scalar as a function of the trainables."""


AGREEMENT = 1e-2
"""What forward and reverse mode may differ by, as a share of the sum of all products without their signs."""


class LookAhead:
    """One step from `params` down the sum of `parts`, scalars that depend on what weighs them as well.

    `theta` holds the trainables as leaf tensors, `slopes` the gradient of the sum there, `eta` the step sizes: the learning
    rates `rates`, or with `rms` what makes each trainable's step as long as its rate in root mean square, about as far as a
    step of Adam goes.
    """

    def __init__(self, parts: Sequence[Scalar], params: Params, rates: Mapping[str, float], *, rms: bool) -> None:
        self.theta, self.parts = leaves(params), parts
        found = [gradients(part(self.theta), self.theta) for part in parts]
        self.slopes = {name: torch.stack([own[name] for own in found]).sum(0) for name in self.theta}
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

    def derivative(self, pull: Params, unknown: Tensor) -> Tensor:
        """dV / du for a leaf tensor u that weighs the loss, by V's gradient at theta* of all trainables or of some.

        Raises `CellFailedError` if forward and reverse mode do not agree on the slope of the loss along that direction.
        """
        found, total = torch.zeros_like(unknown), 0.0
        for part in self.parts:
            slope = self.along(part, pull)
            total += float(slope.detach())
            found += gradients(slope, {"": unknown})[""]
        self._require_agreement(total, pull)
        return found

    def _require_agreement(self, total: float, pull: Params) -> None:
        products = [(self.eta[name] * self.slopes[name] * v).double() for name, v in pull.items()]
        reverse, size = (float(torch.stack([part.sum() for part in parts]).sum()) for parts in (products, map(abs, products)))
        # Not-a-number is no disagreement: a unit that diverged is told as such.
        if abs(total + reverse) > AGREEMENT * size:
            raise CellFailedError(
                f"the slope of a unit's loss is {total:.3g} in forward mode and {-reverse:.3g} in reverse mode",
                "a quantizer or loss in it has gradients of its own in one of them: `x + (rounded - x).detach()` has them in "
                "both, a block under torch.no_grad() or an autograd.Function without jvp() has not",
            )

    def along(self, function: Scalar, pull: Params) -> Tensor:
        """The slope at theta of a function, which may have several values, along - eta . pull."""
        return slope_along(function, self.theta, {name: -self.eta[name] * v for name, v in pull.items()})


def slope_along(function: Scalar, params: Params, direction: Params) -> Tensor:
    """< grad f(params), direction > for each value of f in one pass, by forward-mode differentiation.

    `direction` is by name, of all trainables or of some.
    """
    _load_rules()
    with fwAD.dual_level(), OneSided():
        moved = {name: fwAD.make_dual(params[name].detach(), tangent) for name, tangent in direction.items()}
        found = function({name: value.detach() for name, value in params.items()} | moved)
        slope = fwAD.unpack_dual(found).tangent
        return torch.zeros_like(found) if slope is None else slope


@cache
def _load_rules() -> None:
    """Torch compiles some of its forward-mode rules when the first number is made, and warns of its own compiler."""
    with warnings.catch_warnings(), fwAD.dual_level():
        warnings.simplefilter("ignore", FutureWarning)
        zero = torch.zeros((), dtype=torch.float32, device="cpu")
        fwAD.make_dual(zero, zero)


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
