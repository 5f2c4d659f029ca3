"""What weighters learned: weights by timestep, against gradient agreement, their effective sample size, their meta terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ptqbench.diagnostics.arms import Arm, Row
from ptqbench.diagnostics.collect import UnitFindings
from ptqbench.diagnostics.statistics import (
    Array,
    Band,
    Bins,
    Spread,
    binned,
    by_step,
    effective_share,
    mean_known,
    median_band,
    over_seeds,
    rank_correlation,
)

BINS = 50
"""Bins of agreement, as in arXiv:2602.01289, figure 2."""

TERMS = ("validation", "matching")
"""Names under which a weighter may report its meta objective at each update: (K,)."""


@dataclass(frozen=True)
class LearnedRow:
    """One calibration seed. `effective` and `rank` are by unit (U,): the effective share of the training samples, and the
    rank correlation of a sample's weight with the agreement of its gradient. `mean_weight` is by sampling step (S,).

    `balance` is the size of the matching term as a multiple of the validation term, both averaged over a unit's updates, in the
    median unit; NaN for a weighter that does not report both."""

    seed: int
    units: list[str]
    effective: Array
    rank: Array
    mean_weight: Array
    balance: float


@dataclass(frozen=True)
class Learned:
    """The learned weights of an arm; bands and bins pool units and seeds.

    `by_step` has the mean and the 10-90 % band at each sampling step. `terms` are relative to the mean absolute value of the
    first tenth of a unit's updates: median and quartiles, since a term that starts near zero makes a mean meaningless.
    """

    arm: str
    rows: list[LearnedRow]
    effective: Spread
    rank: Spread
    balance: Spread
    by_step: Band
    agreement: Bins
    terms: dict[str, Band]


def learned_weights(arms: Sequence[Arm], steps: int) -> list[Learned]:
    """One for each arm whose weighter reports weights of the training samples."""
    return [_learned(arm, steps) for arm in arms if any(_weighed(row) for row in arm.rows)]


def _weighed(row: Row) -> list[UnitFindings]:
    """Units with a weight for each training sample."""
    return [u for u in row.observation.units if "weights" in u.report and u.report["weights"].shape == _steps(u).shape]


def _steps(unit: UnitFindings) -> np.ndarray:
    return np.asarray(unit.observed["train.step"], dtype=np.int64)


def _learned(arm: Arm, steps: int) -> Learned:
    rows = [_row(row, steps) for row in arm.rows if _weighed(row)]
    units = [unit for row in arm.rows for unit in _weighed(row)]
    return Learned(
        arm.label,
        rows,
        over_seeds([float(row.effective.mean()) for row in rows]),
        over_seeds([float(mean_known(row.rank)) for row in rows]),
        over_seeds([row.balance for row in rows]),
        _pooled_by_step(units, steps),
        binned(_agreements(units), np.concatenate([_checked(unit) for unit in units]), BINS),
        {name: band for name in TERMS if (band := _relative(units, name)) is not None},
    )


def _row(row: Row, steps: int) -> LearnedRow:
    units = _weighed(row)
    return LearnedRow(
        row.seed,
        [unit.name for unit in units],
        np.asarray([effective_share(_weights(unit)) for unit in units]),
        np.asarray([rank_correlation(unit.observed["agreement.weight"], unit.observed["agreement"]) for unit in units]),
        _pooled_by_step(units, steps).middle,
        _balance(units),
    )


def _balance(units: Sequence[UnitFindings]) -> float:
    """The terms are averaged over a unit's updates first: one update sees few samples, and may estimate a term."""
    ratios = []
    for unit in units:
        if unit.report.keys() >= set(TERMS):
            validation, matching = (float(np.mean(unit.report[name])) for name in TERMS)
            ratios.append(abs(matching) / validation if validation > 0 else np.nan)
    return float(np.nanmedian(ratios)) if np.isfinite(ratios).any() else np.nan


def _weights(unit: UnitFindings) -> Array:
    """Weights (N,) with mean 1, whatever their scale was."""
    weights = np.asarray(unit.report["weights"], dtype=np.float64)
    return weights / weights.mean()


def _pooled_by_step(units: Sequence[UnitFindings], steps: int) -> Band:
    return by_step(np.concatenate([_steps(u) for u in units]), np.concatenate([_weights(u) for u in units]), steps)


def _agreements(units: Sequence[UnitFindings]) -> Array:
    return np.concatenate([np.asarray(unit.observed["agreement"], dtype=np.float64) for unit in units])


def _checked(unit: UnitFindings) -> Array:
    """The weights of the samples whose agreement was measured, on the scale of `_weights`."""
    return np.asarray(unit.observed["agreement.weight"], dtype=np.float64) / float(np.mean(unit.report["weights"]))


def _relative(units: Sequence[UnitFindings], name: str) -> Band | None:
    """A meta term over updates, as many as every unit has; None if no unit reports it."""
    curves = [np.asarray(unit.report[name], dtype=np.float64) for unit in units if name in unit.report]
    curves = [relative_to_start(curve) for curve in curves if curve.ndim == 1 and curve.size]
    curves = [curve for curve in curves if np.isfinite(curve).all()]
    if not curves:
        return None
    shortest = min(curve.size for curve in curves)
    return median_band(np.stack([curve[:shortest] for curve in curves]))


def relative_to_start(curve: Array) -> Array:
    """A curve (K,) divided by the mean absolute value of its first tenth: single updates rest on few samples."""
    start = float(np.abs(curve[: max(1, curve.size // 10)]).mean())
    return curve / start if start > 0 else np.full_like(curve, np.nan)
