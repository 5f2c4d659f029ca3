"""Two runs side by side: the cells that both have, measured on the same noise, with paired differences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ptqbench.errors import NotComparableError
from ptqbench.evaluate.paired import pool_pairs
from ptqbench.plugin.names import FULL_PRECISION
from ptqbench.results import formatting
from ptqbench.results.compare import REFUSED, arm_of, comparable, compare_rows, with_verdicts
from ptqbench.results.difference_table import DETECTABLE, detectable, difference_cell, difference_notes
from ptqbench.results.record import Comparison, RunRecord
from ptqbench.results.rows import Row, rows_of
from ptqbench.results.tables import NOTHING, Cell, Column, Table

NOISE = ("model", "weights", "grid", "steps", "eta", "images", "image seed")
"""What two runs must share for image i of both to come from the same noise through the same sampler."""


def compare_runs(first: RunRecord, second: RunRecord) -> list[Comparison]:
    """Second run minus first in every metric of every method that succeeded in both with the same calibration seeds.

    A pair of numbers that must not be subtracted is in the list as "not comparable". Raises `NotComparableError` when
    the runs do not share their noise, have no cell in common, or no number that can be compared.
    """
    _check_noise(first.protocol, second.protocol)
    shared = {c.id for c in first.cells if c.status == "ok"} & {c.id for c in second.cells if c.status == "ok"}
    if not shared:
        raise NotComparableError(
            "the two runs have no finished cell in common",
            "cells are equal when method, bits, variant and calibration seed are: `ptqbench show RUN --json` lists them",
        )
    ours, theirs = _common_rows(second, shared), _common_rows(first, shared)
    asked = [(row, name) for row in ours.values() for name in _metrics(row, theirs[row.key])]
    # Full precision has no method that could be better: its difference shows another machine or version, and is no test.
    tested = [(row, name) for row, name in asked if not row.full_precision]
    family = Counter(name for row, name in tested if comparable(row, theirs[row.key], name))
    found = [_compare(ours, theirs, row, name, max(1, family[name])) for row, name in asked]
    if all(c.verdict == REFUSED for c in found):
        reasons = list(dict.fromkeys(c.reason for c in found)) or ["the cells in common have no metric in common"]
        raise NotComparableError("no number of the two runs can be compared", "\n".join(reasons))
    judged = iter(with_verdicts([c for c in found if c.method != FULL_PRECISION]))
    return [_without_verdict(c) if c.method == FULL_PRECISION else next(judged) for c in found]


def runs_table(found: Sequence[Comparison], first: str, second: str) -> Table:
    """One line for each pair of numbers: the value in both runs, difference and verdict."""
    columns = [Column("cell", "cell", text=True), Column("metric", "metric", text=True)]
    columns += [Column("a", "A"), Column("b", "B"), Column("difference", "B minus A")]
    columns.append(Column("detectable", "seen from"))
    rows = [
        [
            Cell(" ".join(part for part in (c.method, c.bits, c.variant) if part)),
            Cell(Column(c.metric, c.metric, c.better).heading),
            *(Cell() if x is None else Cell(formatting.significant(x)) for x in (c.baseline_value, c.value)),
            replace(difference_cell(c), note=c.reason),
            Cell(detectable(c) or NOTHING) if c.method != FULL_PRECISION else Cell(),
        ]
        for c in found
    ]
    judged = [c for c in found if c.method != FULL_PRECISION]
    notes = [f"A: {first}", f"B: {second}", *difference_notes(judged)]
    notes += [f"seen from: {DETECTABLE[0].lower()}{DETECTABLE[1:]}"] if any(map(detectable, judged)) else []
    return Table("Two runs side by side", columns, rows, notes)


def _without_verdict(comparison: Comparison) -> Comparison:
    return comparison if comparison.verdict == REFUSED else replace(comparison, verdict="")


def _check_noise(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    unequal = [f"{key} ({a.get(key)} against {b.get(key)})" for key in NOISE if a.get(key) != b.get(key)]
    if unequal:
        raise NotComparableError(
            f"the two runs do not share their images' noise and sampler: {', '.join(unequal)}",
            "run one of them again with the [model] and [sampling] of the other",
        )


def _common_rows(run: RunRecord, shared: set[str]) -> dict[tuple[str, str, str], Row]:
    """The rows of the shared cells; numbers under several protocols are not taken out here but refused one by one."""
    rows = rows_of(replace(run, cells=[cell for cell in run.cells if cell.id in shared], comparisons=[]))
    return {row.key: row for row in rows}


def _metrics(ours: Row, theirs: Row) -> list[str]:
    names, others = (dict.fromkeys(x for cell in row.cells for x in cell.metrics) for row in (ours, theirs))
    return [name for name in names if name in others]


Rows = Mapping[tuple[str, str, str], Row]


def _compare(ours: Rows, theirs: Rows, row: Row, metric: str, family: int) -> Comparison:
    """A row of the second run beside its like in the first; the calibration spread is pooled over all rows of its bits."""
    alike = [(ours[k], theirs[k]) for k in ours if k[1] == row.bits and not ours[k].full_precision]
    usable = [(a, b) for a, b in alike if comparable(a, b, metric)]
    pool = pool_pairs([(arm_of(a.cells, metric), arm_of(b.cells, metric)) for a, b in usable])
    # Both are one method: neither is the other's baseline.
    return replace(compare_rows(row, theirs[row.key], metric, pool, family), baseline="")
