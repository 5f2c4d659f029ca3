"""What a unit's fit came to: its loss before, soft and hardened, how many roundings stayed open, what its weighter learned.

Looking costs as much as a few dozen iterations of mini-batches of eight (docs/diagnostics.md), and what it evaluates is
not counted as calibration. Its seconds are among those of fitting: 1.6 % of a short fit, more where samples are held out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ptqbench.fitting.inner import UnitProblem
from ptqbench.quant.layer import Partition, QuantLayer, learns
from ptqbench.quant.steps import step_group
from ptqbench.results.fits import MOST_RANGES, StageLosses, Weighting
from ptqbench.roles.quantizer import Quantizer
from ptqbench.roles.weighter import UPDATE_TERMS
from ptqbench.stage.counting import uncounted

SAMPLES = 64
"""Samples of a split, at most, on which a unit's loss is taken."""

DIGITS = 5
"""Significant digits that are kept."""

OPEN = 0.05
"""A rounding is undecided if hardening moves its weight by more than this part of a step."""


@dataclass
class Examination:
    """Looks at one unit before it is fitted, after its last iteration, and when it is hardened; changes nothing of it.

    Made while the weights of the unit's quantized layers are as the phase found them; `learns` names the kinds of trainables
    that the phase learns.
    """

    layers: Sequence[QuantLayer]
    learns: frozenset[str]
    losses: dict[str, dict[str, float]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.found = [layer.baked for layer in self.layers]

    def begin(self, problem: UnitProblem) -> None:
        """The unit learns, and no iteration was done: the loss with the weights that were found in place of its own."""
        self.problem, data = problem, problem.data
        self.places = {"training": _spread(data.train, data.step), "held_out": _spread(data.validation, data.step)}
        parts = ((layer, part) for layer in self.layers for part in layer.partitions())
        self.rounding = [(layer, part) for layer, part in parts if _learns_rounding(part, self.learns)]
        now = [layer.baked for layer in self.layers]
        try:
            self._bake(self.found)
            self._look("before")
        finally:
            self._bake(now)

    @torch.no_grad()
    def soft(self) -> None:
        """The last iteration was done: the loss, and the weights that are about to be hardened."""
        self._look("soft")
        self.weights = [_of(part)(layer.weight[:, part.start : part.stop]) for layer, part in self.rounding]

    @torch.no_grad()
    def hard(self) -> dict[str, Any]:
        """The unit is hardened: what was found, as fields of `FitQuality`."""
        self._look("hard")
        moved = 0
        for (layer, part), soft in zip(self.rounding, self.weights, strict=True):
            step = _of(part).layout.spread(_of(part).export()["scale"], soft, None)
            decided = (soft - layer.baked[:, part.start : part.stop]).abs() <= OPEN * step
            # What is no number was never decided.
            moved += int((~decided).sum())
        variables = sum(soft.numel() for soft in self.weights)
        return {
            "training": self._losses("training"),
            "held_out": self._losses("held_out") if len(self.places["held_out"]) else None,
            "variables": variables,
            "undecided": figure(moved / variables) if variables else None,
        }

    def _bake(self, weights: Sequence[Tensor]) -> None:
        for layer, baked in zip(self.layers, weights, strict=True):
            layer.baked = baked

    def _look(self, stage: str) -> None:
        with uncounted():
            known = {split: self.problem.mean_loss(places) for split, places in self.places.items() if len(places)}
        self.losses[stage] = known

    def _losses(self, split: str) -> StageLosses:
        return StageLosses(**{stage: figure(found[split]) for stage, found in self.losses.items()})


def weighting(report: Mapping[str, Tensor], step: Tensor, steps: int) -> Weighting | None:
    """What a weighter's report comes to, of training samples at `step` (N,) of all `steps`; None for one that says nothing."""
    terms = {name: report[name].double() for name in UPDATE_TERMS if name in report and report[name].dim() == 1}
    weights, touches = (report[name].double() if name in report else None for name in ("weights", "touches"))
    if weights is None and touches is None and not terms:
        return None
    shown = {name: [float(value[0]), float(value.mean()), float(value[-1])] for name, value in terms.items() if len(value)}
    kept = {name: [figure(value) for value in values] for name, values in shown.items()}
    return Weighting(
        effective=None if weights is None else figure(float(weights.sum() ** 2 / weights.square().sum() / len(weights))),
        touches=None if touches is None else figure(float(touches.mean())),
        updates=max((len(value) for value in terms.values()), default=0),
        by_step=[] if weights is None or weights.shape != step.shape else _by_step(weights, step, steps),
        terms={name: [x for x in values if x is not None] for name, values in kept.items() if None not in values},
    )


def _by_step(weights: Tensor, step: Tensor, steps: int) -> list[float | None]:
    ranges = min(steps, MOST_RANGES)
    group = step_group(step, steps, ranges).to(weights.device)
    total, count = (torch.bincount(group, x, ranges) for x in (weights, torch.ones_like(weights)))
    return [figure(mean) for mean in (total / count / weights.mean()).tolist()]


def figure(value: float) -> float | None:
    """A number as a record has it, with a few digits; None for what is not finite."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _spread(places: Tensor, step: Tensor) -> Tensor:
    """At most `SAMPLES` of these places of the calibration set, evenly over sampling steps: losses differ most by step."""
    ordered = places[torch.argsort(step[places], stable=True)]
    if len(ordered) <= SAMPLES:
        return ordered
    return ordered[torch.linspace(0, len(ordered) - 1, SAMPLES, dtype=torch.float64, device="cpu").round().long()]


def _learns_rounding(part: Partition, kinds: frozenset[str]) -> bool:
    """Whether the phase decides how the weights of a partition are rounded, and not their scales alone."""
    return part.weight is not None and part.weight.learning and learns(part.weight, kinds - {"step"})


def _of(part: Partition) -> Quantizer:
    """The quantizer of the weights of a partition that has one."""
    if part.weight is None:
        raise ValueError("this partition's weights stay as they are")
    return part.weight
