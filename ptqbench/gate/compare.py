"""A run against a baseline: every tier over every cell."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator
from dataclasses import replace

from ptqbench.errors import NotComparableError
from ptqbench.gate import tiers
from ptqbench.gate.difference import TOGETHER
from ptqbench.gate.snapshot import Snapshot
from ptqbench.gate.tiers import Pair
from ptqbench.gate.verdicts import Finding, Report, Tier, Verdict

ALL_TIERS = frozenset(Tier)
NOT_THE_MACHINE = frozenset({"ptqbench"})
"""Keys of the environment that do not make two machines different."""


def compare(
    now: Snapshot,
    then: Snapshot,
    *,
    wanted: Collection[Tier] = ALL_TIERS,
    strict: bool = False,
    strict_cost: bool = False,
    strict_state: bool = False,
    where: str = "the baseline",
) -> Report:
    """Findings of the wanted tiers. Raises `NotComparableError` if the two have no cell in common."""
    if not now.cells.keys() & then.cells.keys():
        raise NotComparableError(
            f'the run of "{now.recipe}" and {where} (recipe "{then.recipe}") have no cell in common',
            f"the baseline has: {', '.join(then.cells) or 'nothing'}",
        )
    found = _findings(now, then, wanted, strict_cost, strict_state)
    findings = (replace(f, command=_command(now, f)) for f in found)
    remedy = f"if this is intended: ptqbench check RUN --baseline {shlex.quote(where)} --replace --reason TEXT"
    return Report(now.recipe, where, tuple(findings), tuple(_notes(now, then, wanted)), strict, remedy=remedy)


def without_baseline(now: Snapshot, where: str, remedy: str) -> Report:
    """The report of a run that has nothing to be compared with: its failed cells, and that everything else is unknown."""
    failed = [Finding(Verdict.FAILED, Tier.EXACT, name, "cell", e.failed) for name, e in now.cells.items() if e.failed]
    unknown = Finding(Verdict.INCOMPARABLE, Tier.EXACT, "all cells", "baseline", f"there is no baseline at {where}")
    findings = (replace(f, command=_command(now, f)) for f in (*failed, unknown))
    return Report(now.recipe, where, tuple(findings), (remedy,))


def environment_differs(now: Snapshot, then: Snapshot) -> str:
    """How the machines differ, in words; "" if their fingerprints match. A run that does not name its processor never
    matches: seconds on an unknown machine mean nothing."""
    keys = (now.environment.keys() | then.environment.keys()) - NOT_THE_MACHINE
    differ = sorted(key for key in keys if now.environment.get(key) != then.environment.get(key))
    if differ:
        return f"another environment ({', '.join(differ)})"
    return "" if now.environment.get("cpu") else "the environment does not name the processor"


def _findings(
    now: Snapshot, then: Snapshot, wanted: Collection[Tier], strict_cost: bool, strict_state: bool
) -> Iterator[Finding]:
    # What decides whether two sides can be compared at all belongs to the first tier that looks at them.
    first = Tier.EXACT if Tier.EXACT in wanted else Tier.STAT if Tier.STAT in wanted else Tier.COST
    for name, entry in now.cells.items():
        if entry.failed:
            yield Finding(Verdict.FAILED, first, name, "cell", entry.failed)
        elif name not in then.cells:
            yield Finding(Verdict.NEW, first, name, "cell", "not in the baseline; --update adds it")
    for name in (name for name in then.cells if name not in now.cells):
        yield Finding(Verdict.MISSING, first, name, "cell", "the baseline has this cell, the run does not")
    elsewhere = environment_differs(now, then)
    for pair in _pairs(now, then):
        if Tier.EXACT in wanted:
            yield from tiers.exact(pair)
            if not elsewhere:
                yield from tiers.state(pair, strict_state)
        if {Tier.EXACT, Tier.STAT} & set(wanted):
            yield from tiers.evidence(pair, first)
            yield from tiers.metric_sets(pair, first)
            yield from tiers.protocols(pair, first)
        if Tier.STAT in wanted:
            yield from tiers.quality(pair, then, now)
        if Tier.COST in wanted:
            yield from tiers.cost(pair, strict_cost, elsewhere)


def _command(now: Snapshot, finding: Finding) -> str:
    """What reproduces a finding: the run for this cell alone, all its seeds; for a missing cell the whole run."""
    only = ("--only", finding.cell) if finding.cell in now.cells else ()
    return shlex.join(("ptqbench", "run", *now.invocation, *only))


def _pairs(now: Snapshot, then: Snapshot) -> list[Pair]:
    pairs = [
        Pair(name, then.cells[name], entry) for name, entry in now.cells.items() if name in then.cells and not entry.failed
    ]
    total = sum(len(tiers.common(pair)) for pair in pairs)
    return [replace(pair, comparisons=total) for pair in pairs]


def _notes(now: Snapshot, then: Snapshot, wanted: Collection[Tier]) -> Iterator[str]:
    if now.recipe != then.recipe:
        yield f'the baseline was made from another recipe, "{then.recipe}"'
    elif now.digest != then.digest:
        yield "the recipe was changed since the baseline was made, or a part of it was run"
    if Tier.STAT in wanted:
        total = sum(len(tiers.common(pair)) for pair in _pairs(now, then))
        yield (
            f"intervals of differences hold for all {total} comparisons together at {100 * TOGETHER:.0f} %; "
            "worse means: outside the band and the interval excludes zero"
        )
        single = [name for name, e in then.cells.items() if len(e.seeds) == 1]
        if single:
            yield (
                f"one calibration seed in the baseline for {', '.join(single)}: "
                "differences say nothing about other calibrations"
            )
    differs = environment_differs(now, then)
    if not differs and Tier.EXACT in wanted and any(p.then.seeds != p.now.seeds for p in _pairs(now, then)):
        yield "codes and grids are not compared where calibration seeds are not the baseline's"
    if differs:
        if Tier.EXACT in wanted and any(entry.state for entry in then.cells.values()):
            yield f"codes and grids are not compared: {differs}"
        if Tier.COST in wanted:
            yield f"seconds and memory are information only: {differs}"
