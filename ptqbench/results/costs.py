"""What a record says that stages cost: which of them measure, which fit, which failed."""

from __future__ import annotations

from collections.abc import Mapping

from ptqbench.results.record import StageCost

EVALUATION_STAGES = frozenset({"images", "noise-error", "probe", "features", "metrics"})
"""Stages that measure: what they take is no calibration."""

FITTING = "reconstruct-"
"""Stages with such names fit units: one for each phase of a reconstruction."""

FAILED = "failed"
"""The status of a cell that gave no result, and the last word of its progress."""


def fitting_seconds(cost: Mapping[str, StageCost]) -> float:
    """What fitting all units took, in a cell with these costs by stage."""
    return sum(spent.seconds for stage, spent in cost.items() if stage.startswith(FITTING))
