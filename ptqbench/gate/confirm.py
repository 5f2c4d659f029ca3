"""A second look at what seems worse: the same cells under calibration seeds that nobody has seen yet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from ptqbench.gate.snapshot import Entry, Snapshot
from ptqbench.gate.verdicts import Finding, Report, Verdict

Rerun = Callable[[Sequence[str], Sequence[int]], Snapshot]
"""Runs these cells of the recipe under these calibration seeds."""


def confirm(report: Report, now: Snapshot, then: Snapshot, fresh: int, rerun: Rerun) -> Report:
    """Run cells with a worse metric again under `fresh` new seeds; what they do not repeat is no longer worse.

    A loss is confirmed if the fresh mean, too, is worse by more than the band. Full precision has no calibration seed
    and nothing to repeat, and what is not finite needs no second look.
    """
    doubtful = [f for f in report.findings if _doubtful(f, then)]
    if not doubtful:
        return report
    used = {seed for side in (now, then) for entry in side.cells.values() for seed in entry.seeds}
    seeds = [max(used) + 1 + i for i in range(fresh)]
    again = rerun(list(dict.fromkeys(f.cell for f in doubtful)), seeds)
    findings = tuple(_second(f, again.cells.get(f.cell), seeds) if f in doubtful else f for f in report.findings)
    return replace(report, findings=findings)


def _doubtful(finding: Finding, then: Snapshot) -> bool:
    measured = finding.difference is not None and math.isfinite(finding.difference.low)
    return measured and finding.verdict is Verdict.WORSE and bool(then.cells[finding.cell].seeds)


def _second(finding: Finding, again: Entry | None, seeds: Sequence[int]) -> Finding:
    named = f"fresh seeds {', '.join(map(str, seeds))}"
    fresh = again.metrics.get(finding.subject) if again is not None and not again.failed else None
    if fresh is None or finding.then is None or finding.band is None:
        return replace(finding, text=f"{finding.text}; {named} gave no number")
    loss = (fresh.value - finding.then) * (1 if finding.better == "lower" else -1)
    if loss <= finding.band:
        return replace(finding, verdict=Verdict.SAME, text=f"not confirmed: {named} gave {fresh.value:g}")
    return replace(finding, text=f"{finding.text}; confirmed: {named} gave {fresh.value:g}")
