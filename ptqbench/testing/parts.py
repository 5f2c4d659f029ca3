"""Samplers, loss terms, ranges, passes, partitioners, reconstructions and hooks on their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ptqbench.errors import UserError
from ptqbench.quant.grid import Levels, QuantSpec
from ptqbench.quant.plan import Plan
from ptqbench.roles.hook import PredictionPairs
from ptqbench.roles.loss import Outcome
from ptqbench.roles.sampler import TrajectoryGrid
from ptqbench.stage.context import RunContext
from ptqbench.testing.gradients import check_gradients
from ptqbench.testing.methods import NETWORKS
from ptqbench.testing.networks import SHAPE
from ptqbench.testing.trial import Trial
from ptqbench.testing.world import METHOD, STEPS, TRAJECTORIES, Network, experiment, inputs, world

MODULES = ("", "first", "down", "attention", "mid_block.attentions.0", "up", "last")
"""Modules of the grid that samplers are asked to choose from."""


def selections(trial: Trial) -> None:
    """Exactly n pairs inside the grid, the same for the same generator, for grids of several sizes."""
    for steps, trajectories in ((STEPS, TRAJECTORIES), (50, 16)):
        features = _Features(steps)
        timesteps = torch.arange(steps).flip(0) * (1000 // steps)
        grid = TrajectoryGrid(timesteps, trajectories, MODULES, features)
        for n in (steps, 2 * steps):
            trial.build().select(grid, n, torch.Generator().manual_seed(n))


@dataclasses.dataclass(frozen=True)
class _Features:
    """Features that change from step to step, (S, n, 4, 2, 2)."""

    steps: int

    def __call__(self, module: str, n: int) -> Tensor:
        noise = torch.randn(self.steps, n, 4, 2, 2, generator=torch.Generator().manual_seed(0))
        return noise + torch.arange(self.steps)[:, None, None, None, None]


def losses(trial: Trial) -> None:
    """One value for each sample, which is that of the sample alone, with the derivatives of finite differences, twice."""
    term = trial.build()
    shape = (3, 4, 8, 8)

    def outcome(out: Tensor, inner: Tensor, rows: slice = slice(None)) -> Outcome:
        return Outcome(
            output=(out,),
            target=(_normal(1, shape)[rows],),
            step=torch.arange(3)[rows],
            power=2.0,
            layers={"inner": inner, "last": out} if term.reads_layers else {},
            layer_targets={"inner": _normal(2, shape)[rows], "last": _normal(1, shape)[rows]} if term.reads_layers else {},
            sensitivity=(_normal(3, shape)[rows],) if term.reads_sensitivity else (),
        )

    at = [_normal(4, shape), _normal(5, shape)]
    whole = term.losses(outcome(at[0], at[1]))
    if not whole:
        raise trial.fault("applies to no ordinary output (B, C, H, W)", "give parts for feature maps of even size")
    for name, value in term.losses(outcome(at[0][1:2], at[1][1:2], slice(1, 2))).items():
        if not torch.allclose(value, whole[name][1:2]):
            raise trial.fault(
                f"gives a sample another loss in another batch ({name!r})", "losses are those of each sample alone"
            )
    for name in whole:
        check = at if term.reads_layers else at[:1]

        def total(*given: Tensor, name: str = name) -> Tensor:
            found: Tensor = term.losses(outcome(given[0], given[1] if len(given) > 1 else at[1]))[name]
            return found.sum()

        _check_gradients(trial, f"part {name!r}", total, *check)


def _check_gradients(trial: Trial, what: str, function: Callable[..., Tensor], *at: Tensor) -> None:
    given = [x.detach().clone().requires_grad_() for x in at]
    slopes = torch.autograd.grad(function(*given), given, allow_unused=True)
    # A part may be of the layers, or of the outputs, alone.
    moved = [x for x, slope in zip(at, slopes, strict=True) if slope is not None]

    def of_moved(*given: Tensor) -> Tensor:
        values = iter(given)
        return function(*(next(values) if any(x is y for y in moved) else x for x in at))

    check_gradients(trial, what, of_moved, *moved, twice=True)


def _normal(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ranges(trial: Trial) -> None:
    """A positive scale and an integral zero point for each row, whatever was seen: the same for the same values."""
    rows = torch.randn(3, 4, 200, generator=torch.Generator().manual_seed(0))
    seen = {"normal": rows, "positive": rows.abs() + 1, "constant": torch.full_like(rows, 0.5), "zero": rows * 0}
    for bits in (2, 4, 8):
        for levels in (Levels(bits), Levels(bits, symmetric=True), Levels(bits, nonnegative=True)):
            for name, batches in seen.items():
                found = []
                for _ in range(2):
                    estimator = trial.build(levels=levels)
                    for batch in batches.abs() if levels.nonnegative else batches:
                        estimator.observe(batch)
                    found.append(estimator.grid())
                if not all(torch.equal(a, b) for a, b in zip(*found, strict=True)):
                    raise trial.fault(f"found two grids for the same {name} values", "keep nothing outside of instances")


@contextmanager
def _tiny(trial: Trial, network: Network) -> Iterator[RunContext]:
    with world(experiment(trial.manager, METHOD, network)) as ctx:
        yield ctx


def plans(trial: Trial) -> None:
    """A plan of the same layers, with reasons, and the same each time."""
    for network in NETWORKS:
        with _tiny(trial, network) as ctx:
            plan = Plan.uniform(ctx.probe, QuantSpec(4, "channel"), QuantSpec(8))
            try:
                first, second = (trial.build().apply(plan, ctx.probe) for _ in range(2))
            except UserError as error:
                if error.exit_code == 3:
                    raise
                continue
        if first != second:
            raise trial.fault("made two plans of one", "keep nothing outside of instances")


def hooks(trial: Trial) -> None:
    """What `fit` finds is all that `restore` needs, and rows of a batch are corrected each on its own."""
    with torch.no_grad():
        pairs = PredictionPairs(STEPS, TRAJECTORIES, _pair)
        first, second = (trial.build().fit(pairs) for _ in range(2))
        if first.keys() != second.keys() or not all(torch.equal(value, second[name]) for name, value in first.items()):
            raise trial.fault("learned something else from the same pairs", "keep nothing outside of instances")
        made, other = trial.build(), trial.build()
        made.restore({name: value.clone() for name, value in first.items()})
        other.restore({name: value.clone() for name, value in second.items()})
        step, eps = torch.tensor([0, 3, STEPS - 1]), inputs(3)
        whole, again = made.prediction(step, eps), other.prediction(step, eps)
        rows = torch.cat([made.prediction(step[i : i + 1], eps[i : i + 1]) for i in range(3)])
    if not torch.equal(whole, again):
        raise trial.fault(
            "corrects otherwise after restore()", "restore() takes all that fit() returned, and needs nothing else"
        )
    if not torch.allclose(whole, rows, atol=1e-5):
        raise trial.fault("corrects a row otherwise in another batch", "each row is at its own step, and on its own")


def _pair(step: int) -> tuple[Tensor, Tensor]:
    full = torch.randn(TRAJECTORIES, *SHAPE, generator=torch.Generator().manual_seed(step))
    error = torch.randn(TRAJECTORIES, *SHAPE, generator=torch.Generator().manual_seed(100 + step))
    return full, 1.1 * full + 0.1 * error + 0.01 * step
