"""Quantizers on their own: grids of all kinds, learning, and the way through the cache."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call

from ptqbench.errors import CellFailedError
from ptqbench.quant.grid import Layout, Levels, QuantSpec
from ptqbench.roles.quantizer import Quantizer
from ptqbench.roles.range import RangeEstimator
from ptqbench.testing.gradients import check_gradients
from ptqbench.testing.trial import Trial

ROUNDING = "rounding"
"""The kind of trainables that the forward pass is smooth in; scales learn by the straight-through estimator."""


@dataclass(frozen=True)
class Site:
    """A place for a quantizer: its grid, layout, values (B, ...), and each row's step group where the grid has several."""

    spec: QuantSpec
    layout: Layout
    x: Tensor
    group: Tensor | None = None


class Extremes(RangeEstimator):
    """From the least to the greatest value."""

    def observe(self, values: Tensor) -> None:
        self.low, self.high = values.amin(1), values.amax(1)

    def grid(self) -> tuple[Tensor, Tensor]:
        return self.levels.from_range(self.low, self.high)


def sites(trial: Trial) -> Iterator[Site]:
    """Sites of every kind that the role meets."""
    normal = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    if trial.bound.role == "weight-quantizer":
        for bits in (2, 4, 8):
            for symmetric in (False, True):
                yield Site(QuantSpec(bits, "channel", symmetric), Layout(0), normal)
        yield Site(QuantSpec(4), Layout(), normal)
        return
    group = torch.tensor([0, 0, 1, 1, 2, 2])
    spread = normal * torch.tensor([1.0, 1.0, 3.0, 3.0, 9.0, 9.0])[:, None, None, None]
    for bits in (4, 8):
        for symmetric in (False, True):
            yield Site(QuantSpec(bits, "tensor", symmetric), Layout(), normal)
            yield Site(QuantSpec(bits, "tensor", symmetric, steps=3), Layout(), spread, group)
    yield Site(QuantSpec(4, nonnegative=True), Layout(), normal.abs())
    yield Site(QuantSpec(4, "channel"), Layout(1), normal)
    yield Site(QuantSpec(4, "channel", steps=3), Layout(-1), spread.flatten(2).transpose(1, 2), group)


def frozen(trial: Trial, site: Site) -> Quantizer | None:
    """A quantizer that has seen the site's values; None if it has no use for such a site, and says so when it is made."""

    def estimator() -> RangeEstimator:
        return Extremes(trial.bound.options, levels=Levels(site.spec.bits, site.spec.symmetric, site.spec.nonnegative))

    try:
        made: Quantizer = trial.build(spec=site.spec, layout=site.layout, estimator=estimator)
    except CellFailedError:
        return None
    made.observe(site.x, site.group)
    made.freeze()
    return made


def each(trial: Trial) -> Iterator[tuple[Site, Quantizer]]:
    """A frozen quantizer for each site that it has a use for."""
    found = [(site, made) for site in sites(trial) if (made := frozen(trial, site)) is not None]
    if not found:
        raise trial.fault("has a use for no site at all", "let it be built for some of 2 to 8 bits")
    yield from found


def grids(trial: Trial) -> None:
    """Values lie on grids within their bits, also for symmetric, per-channel and per-step grids, at inference as well."""
    for site, made in each(trial):
        made.export(site.x if trial.bound.role == "weight-quantizer" else None)
        with torch.no_grad():
            found = made(site.x, site.group)
        with torch.inference_mode():
            again = made(site.x.clone(), site.group)
        if not torch.allclose(found, again, rtol=1e-4, atol=1e-6):
            raise trial.fault("gives other values at inference", "forward() is the same in inference mode once it is hard")


def same_twice(trial: Trial) -> None:
    """Two quantizers that saw the same do the same."""
    for site, made in each(trial):
        other = frozen(trial, site)
        assert other is not None
        _require_equal(
            trial, site, made, other, "does something else when it is made again", "keep nothing outside of instances"
        )


def restored(trial: Trial) -> None:
    """What `export` gives brings another instance to the same state."""
    for site, made in each(trial):
        _require_restored(trial, site, made)


def _require_restored(trial: Trial, site: Site, made: Quantizer) -> None:
    other = frozen(trial, site)
    assert other is not None
    other.restore(made.export(_weight(trial, site)))
    _require_equal(trial, site, made, other, "does something else after restore()", "restore() takes all that export() gives")


def _require_equal(trial: Trial, site: Site, one: Quantizer, other: Quantizer, what: str, remedy: str) -> None:
    first, second = one.export(_weight(trial, site)), other.export(_weight(trial, site))
    if first.keys() != second.keys() or not all(torch.equal(value, second[name]) for name, value in first.items()):
        raise trial.fault(what, remedy)
    with torch.no_grad():
        if trial.bound.role != "weight-quantizer" and not torch.equal(one(site.x, site.group), other(site.x, site.group)):
            raise trial.fault(what, remedy)


def learning(trial: Trial) -> None:
    """Trainables get gradients, those of finite differences where the pass is smooth, and harden to a grid again."""
    for site, made in each(trial):
        if not made.learnable():
            continue
        made.begin_learning(_weight(trial, site))
        names = {name: group.kind for group in made.learnable() for name in group.names}
        params = {name: made.get_parameter(name) for name in names}
        loss = (made(site.x, site.group) - site.x).square().mean()
        penalty = made.penalty(0.5)
        slopes = torch.autograd.grad(loss if penalty is None else loss + penalty, list(params.values()), allow_unused=True)
        for name, slope in zip(params, slopes, strict=True):
            if slope is None or not bool(torch.isfinite(slope).all()):
                what = f"gives its trainable {name!r} {'no gradient' if slope is None else 'a gradient that is not finite'}"
                raise trial.fault(what, "forward() while learning follows from what learnable() names")
        _smooth(trial, site, made, names)
        torch.optim.Adam(params.values(), lr=1e-3).step()
        made.harden()
        _require_restored(trial, site, made)


def _smooth(trial: Trial, site: Site, made: Quantizer, names: dict[str, str]) -> None:
    """Compare with finite differences, in double precision."""
    double = copy.deepcopy(made).double()
    x = site.x.double()
    pull = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def forward(name: str) -> Callable[[Tensor], Tensor]:
        return lambda value: (functional_call(double, {name: value}, (x, site.group)) * pull).sum()

    def penalty(name: str) -> Callable[[Tensor], Tensor]:
        return lambda value: found if (found := double.penalty(0.5, {name: value})) is not None else value.sum() * 0

    for name, kind in names.items():
        if kind == ROUNDING:
            # Off the ends of the grid, where variables begin and derivatives have a kink.
            value = double.get_parameter(name).detach() + 0.3 * pull
            check_gradients(trial, f"forward pass by {name!r}", forward(name), value)
            check_gradients(trial, f"penalty by {name!r}", penalty(name), value)


def _weight(trial: Trial, site: Site) -> Tensor | None:
    return site.x if trial.bound.role == "weight-quantizer" else None
