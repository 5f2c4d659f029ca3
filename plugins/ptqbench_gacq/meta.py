"""The meta-gradient of GACQ in closed form: nothing is differentiated through the look-ahead, so no third derivatives.

For a training mini-batch with losses l_i(theta) and weights omega (sum 1), the look-ahead is

    theta* = theta - eta . sum_i omega_i grad l_i(theta),                      eta: a step size for each trainable,

and the validation losses of the T timestep groups are L_t(theta*). Their gradients with respect to the weights,

    g_t[i] = dL_t/domega_i = -<grad l_i(theta), eta . grad L_t(theta*)>  =: P(grad L_t)[i],

are directional derivatives of the training losses. P(v) for all samples at once is one backward pass through the graph of
the look-ahead gradient, which is linear in omega (`ptqbench.fitting.lookahead`). The meta loss is

    mean_t L_t  +  c * M,          M = -mean over pairs t != k of g_t . g_k,

where M stands in for the match of the groups' gradients with respect to theta (the paper's surrogate). Because theta* is
linear in omega, the derivative of g_t is a Hessian product: with r_t = sum over k != t of g_k = P(sum over k != t of grad L_k)
and u_t = eta . sum_i r_t[i] grad l_i,

    d meta / domega  =  P( mean_t grad L_t  +  2c / (T (T-1)) * sum_t H_t u_t ),          H_t: Hessian of L_t at theta*,
    M                =  sum_t <u_t, grad L_t> / (T (T-1)),

so that with one group at a time (below) two passes P are enough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ptqbench.fitting.lookahead import LookAhead, Params, gradients, leaves

Losses = Callable[[Params], Tensor]
"""Per-sample losses (B,) as a function of the trainables."""


@dataclass(frozen=True)
class Groups:
    """Validation losses of the timestep groups, which are of equal size.

    `chosen` are those whose part of the matching gradient is computed: all of them for the exact gradient, a random subset
    for an unbiased estimate. `rest` gives the losses of the others' samples together; `count` is the number of all groups.
    """

    chosen: Sequence[Losses]
    rest: Losses | None
    count: int


@dataclass(frozen=True)
class MetaGradient:
    """`by_weight` (B,): derivative of the meta loss with respect to omega. `validation`, `matching`: its two terms."""

    by_weight: Tensor
    validation: float
    matching: float


def meta_gradient(
    train: Losses, groups: Groups, params: Params, rates: Mapping[str, float], weights: Tensor, *, factor: float, rms: bool
) -> MetaGradient | None:
    """The meta loss's derivative by the weights omega (B,), which sum to 1; None where the look-ahead gradient vanishes.

    `rates` are the learning rates of the trainables, `factor` is c. With `rms` each trainable's look-ahead is as long as its
    rate in root mean square, about as far as a step of Adam goes; its length counts as a constant.
    """
    theta = leaves(params)
    losses = train(theta)
    omega = weights.detach().clone().requires_grad_()
    ahead = LookAhead.of((omega * losses).sum(), theta, rates, rms=rms)
    if not ahead.moving:
        return None

    def project(vector: Params) -> Tensor:
        return ahead.derivative(vector, omega)

    star = ahead.end()
    own = [_Group(group, star, curved=factor > 0) for group in groups.chosen]
    parts = [(1.0, group) for group in own]
    if groups.rest is not None:
        parts.append((float(groups.count - len(own)), _Group(groups.rest, star, curved=False)))
    value = sum(share * group.value for share, group in parts) / groups.count
    everything = _sum([(share, group.slopes) for share, group in parts])
    direction, matching = [(1 / groups.count, everything)], 0.0
    if factor:
        pairs = len(own) * (groups.count - 1)
        for group in own:
            others = project(_sum([(1.0, everything), (-1.0, group.slopes)]))
            pull = gradients((others * losses).sum(), theta, keep=True)
            bend = {name: ahead.eta[name] * slope for name, slope in pull.items()}
            matching += factor * float(_inner(bend, group.slopes)) / pairs
            direction.append((2 * factor / pairs, group.hessian_times(bend)))
    return MetaGradient(project(_sum(direction)), value, matching)


class _Group:
    """A timestep group at theta*: its mean loss, the gradient, and (if `curved`) products with its Hessian."""

    def __init__(self, losses: Losses, star: Params, *, curved: bool) -> None:
        self.star = star
        loss = losses(star).mean()
        self.graph = gradients(loss, star, graph=curved)
        self.value = float(loss.detach())
        self.slopes = {name: slope.detach() for name, slope in self.graph.items()}

    def hessian_times(self, vector: Params) -> dict[str, Tensor]:
        """H v, as the gradient of <grad L, v>."""
        return gradients(_inner(self.graph, vector), self.star)


def _inner(a: Params, b: Params) -> Tensor:
    return torch.stack([(a[name] * b[name]).sum() for name in a]).sum()


def _sum(items: Sequence[tuple[float, Params]]) -> dict[str, Tensor]:
    """The sum of factor times vector."""
    return {name: torch.stack([factor * vector[name] for factor, vector in items]).sum(0) for name in items[0][1]}
