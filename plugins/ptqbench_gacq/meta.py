"""The meta-gradient of GACQ in closed form: no graph is kept through the look-ahead, and no third derivatives appear.

For a training mini-batch with losses l_i(theta), weights w (mean 1) and B samples, the look-ahead is

    theta* = theta - eta . (1/B) sum_i w_i grad l_i(theta),                    eta: a step size for each trainable,

and the validation losses of the T timestep groups are L_t(theta*). Their gradients with respect to the weights,

    g_t[i] = dL_t/dw_i = -(1/B) <grad l_i(theta), eta . grad L_t(theta*)>  =: P(grad L_t)[i],

are directional derivatives of the training losses: one forward-mode pass gives P(v) for all samples at once. The meta loss is

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
from torch.func import jvp

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
    groups: Sequence[Losses],
    params: Params,
    rates: Mapping[str, float],
    weights: Tensor,
    *,
    factor: float,
    relative: bool,
    rms: bool,
    chosen: Sequence[int],
) -> MetaGradient | None:
    """The derivative of the meta loss with respect to the weights (B,); None where the look-ahead gradient vanishes.

    `groups[t]` gives the validation losses of group t. `factor` weighs the matching term, `chosen` names the groups whose
    Hessian products are computed (all of them for the exact gradient; a random subset gives an unbiased estimate).
    """
    theta = {name: value.detach().requires_grad_() for name, value in params.items()}
    losses = train(theta)
    size = len(losses)
    ahead, eta = _look_ahead(theta, losses, weights, rates, rms=rms)
    if ahead is None:
        return None
    plain = {name: value.detach() for name, value in theta.items()}

    def project(vector: Params) -> Tensor:
        return -jvp(train, (plain,), ({name: eta[name] * v for name, v in vector.items()},))[1] / size

    star = {name: value.requires_grad_() for name, value in ahead.items()}
    values, slopes, kept = _group_gradients(groups, star, set(chosen) if factor else set())
    total = project(_sum(slopes))
    count = len(groups)
    mean_value = sum(values) / count
    if not factor:
        return MetaGradient(total / count, mean_value, 0.0, 0.0)
    own = {t: project(slopes[t]) for t in chosen}
    norm = sum(float(g.square().sum()) for g in own.values()) / len(own)
    scale = factor * (mean_value / norm if relative and norm > 0 else 1.0)
    matching = -sum(float(g @ (total - g)) for g in own.values()) / (len(own) * (count - 1))
    products = [
        _hessian_product(kept[t], star, _combine(losses, theta, total - g, eta, size)) for t, g in own.items()
    ]
    weight = 2 * scale / (len(own) * (count - 1))
    bend = project({name: weight * value for name, value in _sum(products).items()})
    return MetaGradient(total / count + bend, mean_value, scale * matching, scale)


def _look_ahead(
    theta: Params, losses: Tensor, weights: Tensor, rates: Mapping[str, float], *, rms: bool
) -> tuple[dict[str, Tensor] | None, dict[str, float]]:
    """theta* and the step sizes eta, which count as constants."""
    slopes = _grad((weights * losses).mean(), theta, keep=True)
    eta = dict(rates)
    if rms:
        sizes = {name: float(slope.square().mean().sqrt()) for name, slope in slopes.items()}
        eta = {name: rates[name] / size if size > 0 else 0.0 for name, size in sizes.items()}
    if all(float(slope.abs().max()) * eta[name] == 0 for name, slope in slopes.items()):
        return None, eta
    return {name: (theta[name] - eta[name] * slope).detach() for name, slope in slopes.items()}, eta


def _group_gradients(
    groups: Sequence[Losses], star: Params, keep: set[int]
) -> tuple[list[float], list[dict[str, Tensor]], dict[int, dict[str, Tensor]]]:
    """Values and gradients of every group's mean loss at theta*; for the groups in `keep` also gradients with a graph."""
    values, slopes, kept = [], [], {}
    for t, group in enumerate(groups):
        loss = group(star).mean()
        graph = _grad(loss, star, graph=t in keep)
        if t in keep:
            kept[t] = graph
        values.append(float(loss.detach()))
        slopes.append({name: value.detach() for name, value in graph.items()})
    return values, slopes, kept


def _combine(losses: Tensor, theta: Params, factors: Tensor, eta: Mapping[str, float], size: int) -> dict[str, Tensor]:
    """u = (eta / B) . sum_i factors[i] grad l_i, from the graph of the training losses."""
    slopes = _grad((factors * losses).sum(), theta, keep=True)
    return {name: eta[name] * slope / size for name, slope in slopes.items()}


def _hessian_product(slopes: Params, star: Params, vector: Params) -> dict[str, Tensor]:
    """H v, as the gradient of <grad L, v>."""
    return _grad(torch.stack([(slopes[name] * vector[name]).sum() for name in vector]).sum(), star)


def _grad(value: Tensor, params: Params, *, keep: bool = False, graph: bool = False) -> dict[str, Tensor]:
    """Gradients by name; zero for trainables that the value does not depend on."""
    if not value.requires_grad:
        return {name: torch.zeros_like(p) for name, p in params.items()}
    found = torch.autograd.grad(
        value, list(params.values()), retain_graph=keep or graph, create_graph=graph, allow_unused=True
    )
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(params.items(), found, strict=True)}


def _sum(items: Sequence[Params]) -> dict[str, Tensor]:
    return {name: torch.stack([item[name] for item in items]).sum(0) for name in items[0]}
