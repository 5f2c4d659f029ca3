"""Writing baselines: the first one, one that only gets stricter, and one that replaces another for a stated reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ptqbench.errors import CellFailedError, UserError
from ptqbench.gate.bands import default_band, set_by_hand
from ptqbench.gate.compare import environment_differs
from ptqbench.gate.snapshot import Change, Entry, Measure, Snapshot
from ptqbench.gate.tiers import STATE
from ptqbench.gate.verdicts import Finding, Report, Tier, Verdict

FIRST = "first baseline"


@dataclass(frozen=True)
class Update:
    """A baseline to write, and what changed in it, a line each."""

    baseline: Snapshot
    changes: tuple[str, ...]


def first_baseline(now: Snapshot, date: str, reason: str = FIRST) -> Snapshot:
    """A baseline from a run. Raises `CellFailedError` if a cell failed, since a gap would never be noticed again, and for
    numbers that are not finite."""
    failed = [name for name, entry in now.cells.items() if entry.failed]
    require_finite(now)
    if failed:
        raise CellFailedError(
            f"no baseline from a run in which cells failed: {', '.join(failed)}",
            "mend them (`ptqbench show RUN` says why) or leave them out of the recipe, and run again",
        )
    cells = {name: _with_bands(entry) for name, entry in now.cells.items()}
    return replace(now, cells=cells, history=(Change(date, reason),), invocation=())


def replaced(now: Snapshot, old: Snapshot | None, date: str, reason: str) -> Update:
    """The run as the new baseline, whatever it says. Bands that were set by hand stay; the history grows.

    Raises `UserError` without a reason.
    """
    if not reason.strip():
        raise UserError("a baseline is replaced for a reason", 'add --reason "why the numbers may change"')
    new = first_baseline(now, date, reason.strip())
    if old is None:
        return Update(new, (f"{len(new.cells)} cells",))
    cells = {name: _with_hand_bands(entry, old.cells.get(name)) for name, entry in new.cells.items()}
    dropped = [f"dropped: {name}" for name in old.cells if name not in cells]
    return Update(replace(new, cells=cells, history=(*old.history, *new.history)), (f"{len(cells)} cells replaced", *dropped))


def tightened(now: Snapshot, old: Snapshot, report: Report) -> Update:
    """The old baseline with new cells and metrics, and with values that are significantly better.

    A value that is the same stays as it is: moving it towards every lucky run would make the next run look worse. A run in
    another environment brings no codes, grids or costs: they would be judged as if they were of the baseline's.
    Cells with a failed or changed finding are left alone. Raises `UserError` for a run on other noise or under other
    calibration seeds: a baseline has one of each; `CellFailedError` for numbers that are not finite.
    """
    _check_equal_seeds(now, old)
    require_finite(now)
    cells = dict(old.cells)
    changes: list[str] = []
    # A better value comes with other codes and grids: they alone are no reason to refuse it.
    stuck = (f for f in report.findings if f.verdict in (Verdict.FAILED, Verdict.CHANGED) and f.subject != STATE)
    frozen = {f.cell for f in stuck}
    taken = {name: _without_machine(entry) for name, entry in now.cells.items()} if environment_differs(now, old) else now.cells
    for finding in sorted(report.findings, key=lambda f: (f.cell, f.subject)):
        entry = taken.get(finding.cell)
        if entry is None or finding.cell in frozen or finding.tier is Tier.COST:
            continue
        if finding.verdict is Verdict.NEW and finding.cell not in old.cells:
            cells[finding.cell] = _with_bands(entry)
            changes.append(f"added: {finding.cell}")
        elif finding.verdict in (Verdict.NEW, Verdict.BETTER):
            _take(cells, finding, entry)
            word = "added" if finding.verdict is Verdict.NEW else "better value taken"
            changes.append(f"{word}: {finding.cell} {finding.subject}")
    order = [*old.cells, *(name for name in now.cells if name not in old.cells)]
    return Update(replace(old, cells={name: cells[name] for name in order if name in cells}), tuple(changes))


def require_finite(now: Snapshot) -> None:
    """Raises `CellFailedError` for numbers of a run that are not finite: nothing could ever be better or worse than they."""
    for cell, entry in now.cells.items():
        for name, measure in entry.metrics.items():
            if not all(math.isfinite(x) for x in (measure.value, measure.low, measure.high, *measure.replicates)):
                raise CellFailedError(
                    f"no baseline with {name} of {cell}, which is not finite", "mend the metric, and run again"
                )


def _check_equal_seeds(now: Snapshot, old: Snapshot) -> None:
    both = [name for name in now.cells if name in old.cells and not now.cells[name].failed]
    differ = [name for name in both if now.cells[name].seeds != old.cells[name].seeds]
    if differ or now.image_seed != old.image_seed:
        what = f"calibration seeds ({', '.join(differ)})" if differ else "noise (sampling.seed)"
        raise UserError(f"this run has other {what} than the baseline", "run with the baseline's, or use --replace --reason")


def _take(cells: dict[str, Entry], finding: Finding, entry: Entry) -> None:
    """Put a metric of the run into the baseline; its band never grows."""
    old, name = cells[finding.cell], finding.subject
    fresh = entry.metrics[name]
    before = old.metrics.get(name)
    band = default_band(fresh) if before is None else min(before.band, default_band(fresh))
    # The spread over calibration seeds is a tolerance too, and never grows either.
    spread = fresh.spread if before is None or before.spread is None else min(before.spread, fresh.spread or before.spread)
    metrics = {**old.metrics, name: replace(fresh, band=band, spread=spread)}
    cells[finding.cell] = replace(old, metrics=metrics, state=entry.state)


def _without_machine(entry: Entry) -> Entry:
    return replace(entry, state="", seconds=0.0, peak_mib=0.0)


def _with_bands(entry: Entry) -> Entry:
    return replace(entry, metrics={name: replace(x, band=default_band(x)) for name, x in entry.metrics.items()})


def _with_hand_bands(entry: Entry, old: Entry | None) -> Entry:
    before: Mapping[str, Measure] = old.metrics if old is not None else {}
    kept = {name: x.band for name, x in before.items() if set_by_hand(x)}
    return replace(entry, metrics={name: replace(x, band=kept.get(name, x.band)) for name, x in entry.metrics.items()})
