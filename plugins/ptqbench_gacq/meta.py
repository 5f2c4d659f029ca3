"""The meta-gradient of GACQ in closed form: nothing is differentiated through the look-ahead, so no third derivatives.

For training samples with losses l_i(theta) and weights omega (sum 1), the look-ahead is

    theta* = theta - eta . sum_i omega_i grad l_i(theta),                      eta: a step size for each trainable.

With L_t(theta*) the validation losses of the T timestep groups and G_t their gradients, the paper's meta loss is

    mean_t L_t  +  c * M,          M = -mean over pairs t != k of G_t . G_k.

The derivative of any function of theta* by the weights is a projection of its gradient v,

    P(v)[i]  =  -<grad l_i(theta), eta . v>,

the slopes of all losses along one direction (`ptqbench.fitting.lookahead`). That of the first term is P(mean_t G_t). That of
M is P(sum_t H_t w_t), with w_t = dM / dG_t and H_t the Hessian of L_t at theta*: a product with each Hessian. The paper avoids
the third derivatives that the derivative of G_t would need in its form by a surrogate: gradients by omega, g_t = P(G_t), take
the place of those by theta*. As a function of G_t that is M after a linear map, so that its w_t are those of the map's
outputs, mapped back. Both are here, and both with cosines in place of inner products: an inner product is largest where
gradients are long, that is where the validation error is steepest.

The two gradients are returned apart: how they are weighed against each other is the weighter's choice. As P is linear, the sum
that it chooses is projected once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ptqbench.fitting.lookahead import LookAhead, Params, Scalar, gradients

Measure = Literal["cosine", "product"]

KEPT = 256 * 2**20
"""Bytes of single samples' gradients that are kept while gradients of timestep groups are matched."""


@dataclass(frozen=True)
class Part:
    """Some training samples: their places among the weights (B,), and their losses (B,) as a function of the trainables."""

    index: Tensor
    losses: Callable[[Params], Tensor]


@dataclass(frozen=True)
class Matching:
    """How gradients of timestep groups are held against each other: with which measure, and by what they are taken.

    `sample` are training samples by whose weights they are taken, a few that stand for all, in a part each; None: by the
    trainables.
    """

    measure: Measure
    sample: Sequence[Part] | None = None


@dataclass(frozen=True)
class MetaGradient:
    """Both terms at the end of a look-ahead, and their gradients there by the trainables: nothing where nothing is matched."""

    ahead: LookAhead
    omega: Tensor
    validation: float
    by_validation: Params
    matching: float = 0.0
    by_matching: Params | None = None
    view: _View | None = None

    def by_weights(self, pull: Params) -> Tensor:
        """P(pull) (N,): the derivative by the weights of all samples of what has this gradient at theta*."""
        return self.ahead.derivative(pull, self.omega)

    def by_some(self, pulls: Sequence[Params], sample: Sequence[Part]) -> Tensor:
        """The same for each of some gradients by the weights of some parts (B,), in rows; they are those of the matching, if
        gradients are matched by weights."""
        if isinstance(self.view, _ByWeights):
            return self.view.of(pulls)
        return torch.stack([torch.cat([self.ahead.along(part.losses, pull) for part in sample]) for pull in pulls])


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
    """Both terms after a step down the losses with weights omega (N,), which sum to 1; None where that step is none.

    `groups` are the mean validation losses of timestep groups of equal size, `rates` the learning rates of the trainables. With
    `rms` each trainable's look-ahead is as long as its rate in root mean square, about as far as a step of Adam goes; its
    length counts as a constant.
    """
    omega = weights.detach().clone().requires_grad_()
    ahead = LookAhead([_weighed(part, omega) for part in parts], params, rates, rms=rms)
    if not ahead.moving:
        return None
    star = ahead.end()
    losses = [group(star) for group in groups]
    value = float(torch.stack(losses).detach().mean())
    own = [gradients(loss, star, graph=matching is not None) for loss in losses]
    pull = {name: torch.stack([slopes[name].detach() for slopes in own]).mean(0) for name in star}
    if matching is None:
        return MetaGradient(ahead, omega, value, pull)
    view = _ByTrainables(star) if matching.sample is None else _ByWeights(matching.sample, ahead)
    return MetaGradient(ahead, omega, value, pull, *_disagreement(own, star, view, matching.measure), view)


def disagreement(vectors: Tensor, measure: Measure) -> Tensor:
    """M: minus the mean over pairs of different rows of `vectors` (T, P) of their inner products or cosines."""
    if measure == "cosine":
        vectors = F.normalize(vectors, dim=1)
    products = vectors @ vectors.T
    count = len(vectors)
    return -(products.sum() - products.trace()) / (count * (count - 1))


def _weighed(part: Part, omega: Tensor) -> Scalar:
    return lambda theta: (omega[part.index] * part.losses(theta)).sum()


def _disagreement(groups: Sequence[Params], star: Params, view: _View, measure: Measure) -> tuple[float, Params]:
    """M and its gradient at theta*, from the gradients of the groups with their graphs."""
    vectors = view.of([{name: slope.detach() for name, slope in slopes.items()} for slopes in groups]).requires_grad_()
    value = disagreement(vectors, measure)
    (by_vector,) = torch.autograd.grad(value, vectors)
    pulls = view.back(by_vector)
    # The gradient of <grad L_t, w_t> is H_t w_t.
    along = [(slopes[name] * pull[name]).sum() for slopes, pull in zip(groups, pulls, strict=True) for name in star]
    return float(value.detach()), gradients(torch.stack(along).sum(), star)


class _ByTrainables:
    """Gradients as they are, all trainables in a row."""

    def __init__(self, star: Params) -> None:
        self.shapes = {name: value.shape for name, value in star.items()}

    def of(self, groups: Sequence[Params]) -> Tensor:
        """Each G_t as a vector."""
        return torch.stack([torch.cat([slopes[name].flatten() for name in self.shapes]) for slopes in groups])

    def back(self, rows: Tensor) -> Sequence[Params]:
        """The transposed map, of each row."""
        pieces = rows.split([shape.numel() for shape in self.shapes.values()], dim=1)
        found = {
            name: piece.reshape(len(rows), *shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }
        return [{name: piece[t] for name, piece in found.items()} for t in range(len(rows))]


class _ByWeights:
    """Gradients by the weights of some training samples: g_t = P(G_t), the paper's surrogate.

    Each sample's own gradient is taken once and serves all maps, where `KEPT` bytes hold them, else once for each map.
    """

    def __init__(self, sample: Sequence[Part], ahead: LookAhead) -> None:
        self.sample, self.ahead = sample, ahead
        size = len(sample) * sum(value.nbytes for value in ahead.theta.values())
        self.kept = list(self._gradients()) if size <= KEPT else None

    def _gradients(self) -> Iterator[Params]:
        """-eta . grad l_i for one sample after the other."""
        theta, eta = self.ahead.theta, self.ahead.eta
        for part in self.sample:
            yield {name: -eta[name] * slope for name, slope in gradients(part.losses(theta).sum(), theta).items()}

    def of(self, groups: Sequence[Params]) -> Tensor:
        """Each g_t (B,)."""
        columns = [torch.stack([_product(own, slopes) for slopes in groups]) for own in self.kept or self._gradients()]
        return torch.stack(columns, dim=1)

    def back(self, rows: Tensor) -> Sequence[Params]:
        """The transposed map, of each row: -eta . sum_i row[i] grad l_i."""
        found = [{name: torch.zeros_like(value) for name, value in self.ahead.theta.items()} for _ in rows]
        for i, own in enumerate(self.kept or self._gradients()):
            for pull, row in zip(found, rows.tolist(), strict=True):
                for name, slope in own.items():
                    pull[name].add_(slope, alpha=row[i])
        return found


def _product(one: Params, other: Params) -> Tensor:
    return torch.stack([(one[name] * value).sum() for name, value in other.items()]).sum()


_View = _ByTrainables | _ByWeights
