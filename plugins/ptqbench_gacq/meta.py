"""The meta-gradient of GACQ in closed form: nothing is differentiated through the look-ahead, so no third derivatives.

For training samples with losses l_i(theta) and weights omega (sum 1), the look-ahead is

    theta* = theta - eta . sum_i omega_i grad l_i(theta),                      eta: a step size for each trainable.

With L_t(theta*) the validation losses of the T timestep groups and G_t their gradients, the paper's meta loss is

    mean_t L_t  +  c * M,          M = -mean over pairs t != k of G_t . G_k.

The derivative of any function of theta* by the weights is a projection of its gradient v,

    P(v)[i]  =  -<grad l_i(theta), eta . v>,

one backward pass through the graph of the look-ahead gradient (`ptqbench.fitting.lookahead`). That of the first term is
P(mean_t G_t). That of M is P(sum_t H_t w_t), with w_t = dM / dG_t and H_t the Hessian of L_t at theta*: a product with each
Hessian. The paper avoids the third derivatives that the derivative of G_t would need in its form by a surrogate: gradients by
omega, g_t = P(G_t), take the place of those by theta*. As a function of G_t that is M after a linear map, so that its w_t
are those of the map's outputs, mapped back. Both are here, and both with cosines in place of inner products: an inner product
is largest where gradients are long, that is where the validation error is steepest.

The two derivatives are returned apart: how they are weighed against each other is the weighter's choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ptqbench.fitting.lookahead import LookAhead, Params, Scalar, gradients

Measure = Literal["cosine", "product"]


@dataclass(frozen=True)
class Part:
    """Some training samples: their places among the weights (B,), and their losses (B,) as a function of the trainables."""

    index: Tensor
    losses: Callable[[Params], Tensor]


@dataclass(frozen=True)
class Matching:
    """How gradients of timestep groups are held against each other: with which measure, and by what they are taken.

    `sample` are training samples by whose weights they are taken, a few that stand for all; None: by the trainables.
    """

    measure: Measure
    sample: Part | None = None


@dataclass(frozen=True)
class MetaGradient:
    """The derivatives (N,) of both terms by the weights, and the terms' values; zeros where nothing is matched."""

    by_validation: Tensor
    by_matching: Tensor
    validation: float
    matching: float


def meta_gradient(
    parts: Sequence[Part],
    groups: Sequence[Scalar],
    params: Params,
    rates: Mapping[str, float],
    weights: Tensor,
    *,
    matching: Matching | None,
    rms: bool,
) -> MetaGradient | None:
    """The derivatives of both terms by the weights omega (N,), which sum to 1; None where the look-ahead gradient vanishes.

    `groups` are the mean validation losses of timestep groups of equal size, `rates` the learning rates of the trainables. With
    `rms` each trainable's look-ahead is as long as its rate in root mean square, about as far as a step of Adam goes; its
    length counts as a constant.
    """
    omega = weights.detach().clone().requires_grad_()
    ahead = LookAhead([_weighed(part, omega) for part in parts], params, rates, rms=rms)
    if not ahead.moving:
        return None
    star = ahead.end()
    own = [_Group(group, star, curved=matching is not None) for group in groups]
    value = sum(group.value for group in own) / len(own)
    pulls: list[Params] = [{name: torch.stack([group.slopes[name] for group in own]).mean(0) for name in star}]
    disagreeing = 0.0
    if matching is not None:
        view = _ByTrainables(star) if matching.sample is None else _ByWeights(matching.sample, ahead)
        disagreeing, pull = _disagreement(own, view, matching.measure)
        pulls.append(pull)
    by_validation, *rest = ahead.derivatives(pulls, omega)
    return MetaGradient(by_validation, rest[0] if rest else torch.zeros_like(by_validation), value, disagreeing)


def disagreement(vectors: Tensor, measure: Measure) -> Tensor:
    """M: minus the mean over pairs of different rows of `vectors` (T, P) of their inner products or cosines."""
    if measure == "cosine":
        vectors = F.normalize(vectors, dim=1)
    products = vectors @ vectors.T
    count = len(vectors)
    return -(products.sum() - products.trace()) / (count * (count - 1))


def _weighed(part: Part, omega: Tensor) -> Scalar:
    return lambda theta: (omega[part.index] * part.losses(theta)).sum()


def _disagreement(groups: Sequence[_Group], view: _View, measure: Measure) -> tuple[float, Params]:
    """M and its gradient at theta*."""
    vectors = torch.stack([view.of(group.slopes) for group in groups]).requires_grad_()
    value = disagreement(vectors, measure)
    (by_vector,) = torch.autograd.grad(value, vectors)
    bends = [group.hessian_times(view.back(row)) for group, row in zip(groups, by_vector, strict=True)]
    return float(value.detach()), {name: torch.stack([bend[name] for bend in bends]).sum(0) for name in bends[0]}


class _Group:
    """A timestep group at theta*: its mean loss, the gradient, and (if `curved`) products with its Hessian."""

    def __init__(self, loss: Scalar, star: Params, *, curved: bool) -> None:
        self.star = star
        value = loss(star)
        self.graph = gradients(value, star, graph=curved)
        self.value = float(value.detach())
        self.slopes = {name: slope.detach() for name, slope in self.graph.items()}

    def hessian_times(self, vector: Params) -> dict[str, Tensor]:
        """H v, as the gradient of <grad L, v>."""
        return gradients(torch.stack([(self.graph[n] * vector[n]).sum() for n in vector]).sum(), self.star)


class _ByTrainables:
    """Gradients as they are, all trainables in a row."""

    def __init__(self, star: Params) -> None:
        self.shapes = {name: value.shape for name, value in star.items()}

    def of(self, slopes: Params) -> Tensor:
        """G_t as a vector."""
        return torch.cat([slopes[name].flatten() for name in self.shapes])

    def back(self, row: Tensor) -> Params:
        """The transposed map."""
        pieces = row.split([shape.numel() for shape in self.shapes.values()])
        return {name: piece.view(shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)}


class _ByWeights:
    """Gradients by the weights of some training samples: g_t[i] = -<grad l_i, eta . G_t>, the paper's surrogate."""

    def __init__(self, part: Part, ahead: LookAhead) -> None:
        self.ahead = ahead
        self.losses = part.losses(ahead.theta)
        # What weighs them does not matter: the map is linear in the weights.
        self.unit = torch.ones_like(self.losses, requires_grad=True)
        self.slopes = gradients((self.unit * self.losses).sum(), ahead.theta, graph=True)

    def of(self, slopes: Params) -> Tensor:
        """g_t (B,)."""
        along = torch.stack([(self.slopes[n] * (self.ahead.eta[n] * slope)).sum() for n, slope in slopes.items()]).sum()
        return -gradients(along, {"": self.unit}, keep=True)[""]

    def back(self, row: Tensor) -> Params:
        """The transposed map: -eta . sum_i row[i] grad l_i."""
        found = gradients((row * self.losses).sum(), self.ahead.theta, keep=True)
        return {name: -self.ahead.eta[name] * slope for name, slope in found.items()}


_View = _ByTrainables | _ByWeights
