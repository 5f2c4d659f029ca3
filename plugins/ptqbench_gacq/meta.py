"""The meta-gradient of GACQ in closed form: nothing is differentiated through the look-ahead, so no third derivatives.

For a training mini-batch with losses l_i(theta), weights w (mean 1) and B samples, the look-ahead is

    theta* = theta - eta . (1/B) sum_i w_i grad l_i(theta),                    eta: a step size for each trainable,

and the validation losses of the T timestep groups are L_t(theta*). Their gradients with respect to the weights,

    g_t[i] = dL_t/dw_i = -(1/B) <grad l_i(theta), eta . grad L_t(theta*)>  =: P(grad L_t)[i],

are directional derivatives of the training losses. P(v) for all samples at once is one backward pass through the graph of
the look-ahead gradient, which is linear in w. The meta loss is

    mean_t L_t  +  c * M,          M = -mean over pairs t != k of g_t . g_k,

where M stands in for the match of the groups' gradients with respect to theta (the paper's surrogate). Because theta* is
linear in w, the derivative of g_t is a Hessian product: with u_t = (eta/B) . sum_i (sum over k != t of g_k)[i] grad l_i,

    d meta / dw  =  mean_t g_t  +  P( 2c / (T (T-1)) * sum_t H_t u_t ),        H_t: Hessian of L_t at theta*.
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
class MetaGradient:
    """`by_weight` (B,): derivative with respect to the weights. `validation` and `matching`: the two terms' values, the
    second already multiplied by `scale`."""

    by_weight: Tensor
    validation: float
    matching: float
    scale: float


def meta_gradient(
    train: Losses,
    chosen: Sequence[Losses],
    rest: Losses | None,
    count: int,
    params: Params,
    rates: Mapping[str, float],
    weights: Tensor,
    *,
    factor: float,
    relative: bool,
    rms: bool,
) -> MetaGradient | None:
    """The derivative of the meta loss with respect to the weights (B,); None where the look-ahead gradient vanishes.

    Of the `count` timestep groups, `chosen` gives the validation losses of those whose part of the matching gradient is
    computed: all of them for the exact gradient, a random subset for an unbiased estimate. `rest` gives the losses of the
    others' samples together (groups are of equal size). `factor` weighs the matching term.
    """
    theta = {name: value.detach().requires_grad_() for name, value in params.items()}
    losses = train(theta)
    w = weights.detach().clone().requires_grad_()
    slopes = _grad((w * losses).mean(), theta, graph=True)
    eta = _step_sizes(slopes, rates, rms=rms)
    if all(eta[name] == 0 or not bool(slope.any()) for name, slope in slopes.items()):
        return None

    def project(vector: Params) -> Tensor:
        along = torch.stack([(slopes[name] * (eta[name] * v)).sum() for name, v in vector.items()]).sum()
        return -_grad(along, {"w": w}, keep=True)["w"]

    star = {name: (theta[name] - eta[name] * slope).detach().requires_grad_() for name, slope in slopes.items()}
    own = [_Group(group, star, curved=factor > 0) for group in chosen]
    parts = [(1.0, group) for group in own]
    if rest is not None:
        parts.append((float(count - len(own)), _Group(rest, star, curved=False)))
    mean_value = sum(share * group.value for share, group in parts) / count
    total = project(_sum([{n: share * v for n, v in group.slopes.items()} for share, group in parts]))
    if not factor:
        return MetaGradient(total / count, mean_value, 0.0, 0.0)
    g = [project(group.slopes) for group in own]
    norm = sum(float(v.square().sum()) for v in g) / len(g)
    scale = factor * (mean_value / norm if relative and norm > 0 else 1.0)
    matching = -sum(float(v @ (total - v)) for v in g) / (len(g) * (count - 1))
    bends = [group.bend(_combine(losses, theta, total - v, eta)) for group, v in zip(own, g, strict=True)]
    weight = 2 * scale / (len(g) * (count - 1))
    bend = project({name: weight * value for name, value in _sum(bends).items()})
    return MetaGradient(total / count + bend, mean_value, scale * matching, scale)


class _Group:
    """A timestep group at theta*: its mean loss, the gradient, and (if `curved`) products with its Hessian."""

    def __init__(self, losses: Losses, star: Params, *, curved: bool) -> None:
        self.star = star
        loss = losses(star).mean()
        self.graph = _grad(loss, star, graph=curved)
        self.value = float(loss.detach())
        self.slopes = {name: slope.detach() for name, slope in self.graph.items()}

    def bend(self, vector: Params) -> dict[str, Tensor]:
        """H v, as the gradient of <grad L, v>."""
        return _grad(torch.stack([(self.graph[name] * vector[name]).sum() for name in vector]).sum(), self.star)


def _step_sizes(slopes: Params, rates: Mapping[str, float], *, rms: bool) -> dict[str, float]:
    """The look-ahead's step size eta for each trainable, which counts as a constant."""
    if not rms:
        return dict(rates)
    sizes = {name: float(slope.detach().square().mean().sqrt()) for name, slope in slopes.items()}
    return {name: rates[name] / size if size > 0 else 0.0 for name, size in sizes.items()}


def _combine(losses: Tensor, theta: Params, factors: Tensor, eta: Mapping[str, float]) -> dict[str, Tensor]:
    """u = (eta / B) . sum_i factors[i] grad l_i, from the graph of the training losses."""
    slopes = _grad((factors * losses).mean(), theta, keep=True)
    return {name: eta[name] * slope for name, slope in slopes.items()}


def _grad(value: Tensor, params: Params, *, keep: bool = False, graph: bool = False) -> dict[str, Tensor]:
    """Gradients by name; zero for trainables that the value does not depend on."""
    if not value.requires_grad:
        return {name: torch.zeros_like(p) for name, p in params.items()}
    found = torch.autograd.grad(value, list(params.values()), retain_graph=keep or graph, create_graph=graph, allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(params.items(), found, strict=True)}


def _sum(items: Sequence[Params]) -> dict[str, Tensor]:
    return {name: torch.stack([item[name] for item in items]).sum(0) for name in items[0]}
