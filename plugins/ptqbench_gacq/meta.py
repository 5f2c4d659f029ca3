"""The meta-gradient of GACQ in closed form: nothing is differentiated through the look-ahead, so no third derivatives.

For a training mini-batch with losses l_i(theta) and weights omega (sum 1), the look-ahead is

    theta* = theta - eta . sum_i omega_i grad l_i(theta),                      eta: a step size for each trainable,

and the validation losses of the T timestep groups are L_t(theta*). Their gradients with respect to the weights,

    g_t[i] = dL_t/domega_i = -<grad l_i(theta), eta . grad L_t(theta*)>  =: P(grad L_t)[i],

are directional derivatives of the training losses. P(v) for all samples at once is one backward pass through the graph of
the look-ahead gradient, which is linear in omega. The meta loss is

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

Params = Mapping[str, Tensor]
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
    theta = {name: value.detach().requires_grad_() for name, value in params.items()}
    losses = train(theta)
    omega = weights.detach().clone().requires_grad_()
    slopes = _grad((omega * losses).sum(), theta, graph=True)
    eta = _step_sizes(slopes, rates, rms=rms)
    if all(eta[name] == 0 or not bool(slope.any()) for name, slope in slopes.items()):
        return None

    def project(vector: Params) -> Tensor:
        along = torch.stack([(slopes[name] * (eta[name] * v)).sum() for name, v in vector.items()]).sum()
        return -_grad(along, {"omega": omega}, keep=True)["omega"]

    star = {name: (theta[name] - eta[name] * slope).detach().requires_grad_() for name, slope in slopes.items()}
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
            bend = {name: eta[name] * slope for name, slope in _grad((others * losses).sum(), theta, keep=True).items()}
            matching += factor * float(_inner(bend, group.slopes)) / pairs
            direction.append((2 * factor / pairs, group.hessian_times(bend)))
    return MetaGradient(project(_sum(direction)), value, matching)


class _Group:
    """A timestep group at theta*: its mean loss, the gradient, and (if `curved`) products with its Hessian."""

    def __init__(self, losses: Losses, star: Params, *, curved: bool) -> None:
        self.star = star
        loss = losses(star).mean()
        self.graph = _grad(loss, star, graph=curved)
        self.value = float(loss.detach())
        self.slopes = {name: slope.detach() for name, slope in self.graph.items()}

    def hessian_times(self, vector: Params) -> dict[str, Tensor]:
        """H v, as the gradient of <grad L, v>."""
        return _grad(_inner(self.graph, vector), self.star)


def _step_sizes(slopes: Params, rates: Mapping[str, float], *, rms: bool) -> dict[str, float]:
    """The look-ahead's step size eta for each trainable, which counts as a constant."""
    if not rms:
        return dict(rates)
    sizes = {name: float(slope.detach().square().mean().sqrt()) for name, slope in slopes.items()}
    return {name: rates[name] / size if size > 0 else 0.0 for name, size in sizes.items()}


def _grad(value: Tensor, params: Params, *, keep: bool = False, graph: bool = False) -> dict[str, Tensor]:
    """Gradients by name; zero for trainables that the value does not depend on."""
    if not value.requires_grad:
        return {name: torch.zeros_like(p) for name, p in params.items()}
    found = torch.autograd.grad(value, list(params.values()), retain_graph=keep or graph, create_graph=graph, allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(params.items(), found, strict=True)}


def _inner(a: Params, b: Params) -> Tensor:
    return torch.stack([(a[name] * b[name]).sum() for name in a]).sum()


def _sum(items: Sequence[tuple[float, Params]]) -> dict[str, Tensor]:
    """The sum of factor times vector."""
    return {name: torch.stack([factor * vector[name] for factor, vector in items]).sum(0) for name in items[0][1]}
