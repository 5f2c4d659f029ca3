"""Observations brought together: rows of one phase, method, bits and variant, one for each calibration seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ptqbench.diagnostics.collect import Observation
from ptqbench.diagnostics.statistics import Array, Spread, mean_known, pairwise_mean, spreads
from ptqbench.recipe.experiment import Cell
from ptqbench.recipe.schema import METHOD_REFERENCES

PLAIN_WEIGHTER = METHOD_REFERENCES[("weighter",)][1]
"""The weighter of a method that names none."""


@dataclass(frozen=True)
class Row:
    """One calibration seed of an arm, over U units, M moments, G timestep groups."""

    seed: int
    observation: Observation

    @property
    def units(self) -> list[str]:
        return [unit.name for unit in self.observation.units]

    def stacked(self, name: str) -> Array:
        """What the observer found under a name in every unit: (U, ...)."""
        return np.stack([np.asarray(unit.observed[name], dtype=np.float64) for unit in self.observation.units])

    @property
    def cosine(self) -> Array:
        """Cosines between groups, mean over units: (M, G, G)."""
        return mean_known(self.stacked("cosine"))

    @property
    def alignment(self) -> Array:
        """Mean cosine between different groups, mean over units: (M,)."""
        return mean_known(pairwise_mean(self.stacked("cosine")))

    @property
    def ends(self) -> Array:
        """Cosine between the first and the last group, the noisiest and the cleanest samples: (M,)."""
        return self.cosine[:, 0, -1]

    @property
    def loss(self) -> Array:
        """Mean task loss of each group, mean over units: (M, G)."""
        return mean_known(self.stacked("loss"))


@dataclass(frozen=True)
class Arm:
    """A method at some bits and in some variant, in one phase. `bits` names all whose cells share the stored results.

    `counterpart` is the label of the arm that differs in nothing but its weighter, which weighs all samples alike.
    """

    cell: Cell
    bits: str
    phase: str
    rows: list[Row]
    counterpart: str = ""

    @property
    def name(self) -> str:
        """The method, with its variant."""
        return " ".join(filter(None, (self.cell.name, self.cell.variant)))

    @property
    def title(self) -> str:
        """What tells this arm from others of its phase."""
        return f"{self.name} {self.bits}"

    @property
    def label(self) -> str:
        """What tells this arm from all others."""
        return f"{self.title}, {self.phase}"

    @property
    def seeds(self) -> list[int]:
        return [row.seed for row in self.rows]

    def row(self, seed: int) -> Row:
        return next(row for row in self.rows if row.seed == seed)


def arms_of(observations: Sequence[Observation]) -> list[Arm]:
    """Arms in the order of the recipe, each with its counterpart."""
    found: dict[tuple[str, ...], list[Observation]] = {}
    for o in observations:
        found.setdefault((o.cell.name, o.cell.variant, o.cell.bits, o.phase), []).append(o)
    merged: dict[tuple[object, ...], tuple[list[Observation], list[str]]] = {}
    for (name, variant, bits, phase), own in found.items():
        # Weights that are fitted before activations are quantized serve several bits; they are one finding, not several.
        same = (name, variant, phase, tuple(o.entry for o in own))
        merged.setdefault(same, (own, []))[1].append(bits)
    arms = [Arm(own[0].cell, "+".join(bits), own[0].phase, [Row(o.cell.seed, o) for o in own]) for own, bits in merged.values()]
    return [Arm(arm.cell, arm.bits, arm.phase, arm.rows, _counterpart(arm, arms)) for arm in arms]


def _counterpart(arm: Arm, arms: Sequence[Arm]) -> str:
    same = (other for other in arms if other.phase == arm.phase and is_counterpart(arm.cell, other.cell))
    return next((other.label for other in same), "")


def is_counterpart(cell: Cell, other: Cell) -> bool:
    """Whether `other` differs from `cell` in nothing but its weighter, which is the plain one."""
    if cell.method is None or other.method is None or cell.bits != other.bits:
        return False
    if cell.method.weighter.name == PLAIN_WEIGHTER or other.method.weighter.name != PLAIN_WEIGHTER:
        return False
    return {**cell.method.key, "weighter": None} == {**other.method.key, "weighter": None}


@dataclass(frozen=True)
class Alignment:
    """Mean cosine between the gradients of different timestep groups at each moment (M,), over seeds; `ends`: between the
    first and the last group alone.

    With a counterpart also paired by seed: `difference` is this arm's less the counterpart's at each moment (M,), and
    `loss_ratio` the loss of each group (G,) at the end as a multiple of the counterpart's, geometric mean over units.
    """

    arm: str
    value: list[Spread]
    ends: list[Spread]
    difference: list[Spread]
    loss_ratio: list[Spread]


def alignments(arms: Sequence[Arm]) -> list[Alignment]:
    """One for each arm."""
    by_label = {arm.label: arm for arm in arms}
    return [_alignment(arm, by_label.get(arm.counterpart)) for arm in arms]


def _alignment(arm: Arm, other: Arm | None) -> Alignment:
    pairs = [(row, other.row(row.seed)) for row in arm.rows if row.seed in other.seeds] if other else []
    differences = [own.alignment - theirs.alignment for own, theirs in pairs]
    ratios = [loss_ratio(own, theirs) for own, theirs in pairs]
    value, ends = (spreads([getattr(row, name) for row in arm.rows]) for name in ("alignment", "ends"))
    return Alignment(arm.label, value, ends, spreads(differences), spreads(ratios))


def loss_ratio(row: Row, other: Row) -> Array:
    """Final loss by timestep group (G,) as a multiple of the other's: geometric mean over the units that both have."""
    theirs = dict(zip(other.units, other.stacked("loss")[:, -1], strict=True))
    own = dict(zip(row.units, row.stacked("loss")[:, -1], strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = [np.log(own[name] / theirs[name]) for name in own if name in theirs]
    return np.exp(mean_known(logs))
