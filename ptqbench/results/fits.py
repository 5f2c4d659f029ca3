"""What a fit came to, unit by unit: its loss rounded to nearest, soft and hardened, and what its weighter learned."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ptqbench.results.strict import STRICT

MOST_UNDECIDED = 0.01
"""A fit with a larger share of undecided roundings is unfinished."""

MOST_HARDENING = 0.05
"""So is one whose loss grows by more than this share when its roundings are decided."""

MOST_RANGES = 20
"""Ranges of sampling steps in which a record has mean weights."""


@dataclass
class StageLosses:
    """Mean loss of a unit on the same samples, by the method's own loss without penalties: with the weights that the phase
    found (rounded to nearest, where it learns rounding), after the last iteration, and hardened. None for what is not finite.
    """

    __pydantic_config__ = STRICT

    before: float | None = None
    soft: float | None = None
    hard: float | None = None


@dataclass
class Weighting:
    """What a weighter reported of a unit. `effective` is the effective sample size of its weights as a share of the training
    samples, (sum w)^2 / sum w^2 / N, `touches` how often a sample's weight learned, a mean, `updates` how often any did.

    `by_step` has the mean weight, as a multiple of all samples' mean, in each of `MOST_RANGES` equal ranges of the sampling
    steps, from noise to image, or at each step where there are fewer; None where a range has no sample. `terms` has the
    first, mean and last value over updates of what was reported of each (`ptqbench.roles.weighter.UPDATE_TERMS`).
    """

    __pydantic_config__ = STRICT

    effective: float | None = None
    touches: float | None = None
    updates: int = 0
    terms: dict[str, list[float]] = field(default_factory=dict)
    by_step: list[float | None] = field(default_factory=list)


@dataclass
class FitQuality:
    """One unit in one phase. `training` is over samples that it was fitted on, `held_out` over those that the method holds out
    for validation; None where it holds none out.

    `variables` counts the weights whose rounding was learned, `undecided` is the share of them that hardening moved by more
    than a twentieth of a step: AdaRound's h in (0.05, 0.95). None where no rounding was learned.
    """

    __pydantic_config__ = STRICT

    phase: str
    unit: str
    iterations: int
    training: StageLosses
    held_out: StageLosses | None = None
    variables: int = 0
    undecided: float | None = None
    weighter: Weighting | None = None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> FitQuality:
        """Inverse of `dataclasses.asdict`."""
        data = dict(data)
        data["training"] = StageLosses(**data["training"])
        data["held_out"] = StageLosses(**data["held_out"]) if data["held_out"] else None
        data["weighter"] = Weighting(**data["weighter"]) if data["weighter"] else None
        return cls(**data)


@dataclass(frozen=True)
class Finish:
    """How far the roundings of several fits were decided. `undecided` is the share of all variables; `hardening` by which share
    of the soft loss hardening raised it, the loss of each unit in units of what rounding to nearest loses there, so that units
    of every scale count by what is at stake; None where it is not known."""

    undecided: float
    hardening: float | None

    @property
    def distance(self) -> float:
        """How far the fits are from finished: at most 1 where they are."""
        return max(self.undecided / MOST_UNDECIDED, (self.hardening or 0.0) / MOST_HARDENING)

    @property
    def finished(self) -> bool:
        return self.distance <= 1


def finish(fits: Iterable[FitQuality]) -> Finish | None:
    """How far the fits that learned rounding were decided; None if there are none."""
    rounded = [fit for fit in fits if fit.undecided is not None and fit.variables]
    if not rounded:
        return None
    undecided = sum(fit.variables * (fit.undecided or 0.0) for fit in rounded) / sum(fit.variables for fit in rounded)
    shares = [known for fit in rounded if (known := _scaled(fit.training)) is not None]
    soft = sum(share[0] for share in shares)
    return Finish(undecided, sum(share[1] for share in shares) / soft - 1 if soft > 0 else None)


def gain(fits: Sequence[FitQuality], *, held_out: bool = False) -> float | None:
    """The hardened loss as a multiple of the loss before, geometric mean over units; None where nothing is known of it."""
    found = [fit.held_out if held_out else fit.training for fit in fits]
    logs = [math.log(x.hard / x.before) for x in found if x is not None and x.hard and x.before]
    return math.exp(sum(logs) / len(logs)) if logs else None


def _scaled(losses: StageLosses) -> tuple[float, float] | None:
    """Soft and hardened loss in units of the loss before; None where one of them is not known."""
    if not losses.before or losses.soft is None or losses.hard is None:
        return None
    return losses.soft / losses.before, losses.hard / losses.before
