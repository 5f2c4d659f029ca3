"""Names of stages that others than their makers ask about; no torch."""

from __future__ import annotations

EVALUATION_STAGES = frozenset({"images", "noise-error", "probe", "features", "metrics"})
"""Stages that measure: what they take is no calibration."""

FAILED = "failed"
"""The status of a cell that gave no result, and the last word of its progress."""
