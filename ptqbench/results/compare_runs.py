"""Two runs side by side: the cells that both have, measured on the same noise, with paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ptqbench.errors import NotComparableError
from ptqbench.evaluate.paired import Arm, paired_difference, pool_pairs
from ptqbench.recipe.experiment import FULL_PRECISION
from ptqbench.results import formatting
from ptqbench.results.compare import REFUSED, UNSEEN, arm_of, judged, refusal, with_verdicts
from ptqbench.results.difference_table import difference_cell, difference_notes
from ptqbench.results.record import CellRecord, Comparison, RunRecord
from ptqbench.results.rows import Row, rows_of
from ptqbench.results.tables import Cell, Column, Table

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
    found = [_blank(row, name) for row in ours.values() for name in _metrics(row, theirs[row.key])]
    found = [_filled(blank, ours, theirs) for blank in found]
    if all(c.verdict == REFUSED for c in found):
        reasons = list(dict.fromkeys(c.reason for c in found)) or ["the cells in common have no metric in common"]
        raise NotComparableError("no number of the two runs can be compared", "\n".join(reasons))
    # Full precision has no method that could be better: its difference shows another machine or version.
    return [_without_verdict(c) if c.method == FULL_PRECISION else c for c in with_verdicts(found)]


def runs_table(found: Sequence[Comparison], first: str, second: str) -> Table:
    """One line for each pair of numbers: the value in both runs, difference and verdict."""
    columns = [Column("cell", "cell", text=True), Column("metric", "metric", text=True)]
    columns += [Column("a", "A"), Column("b", "B"), Column("difference", "B minus A")]
    rows = [
        [
            Cell(" ".join(part for part in (c.method, c.bits, c.variant) if part)),
            Cell(Column(c.metric, c.metric, c.better).heading),
            *(Cell() if x is None else Cell(formatting.significant(x)) for x in (c.baseline_value, c.value)),
            replace(difference_cell(c), note=c.reason),
        ]
        for c in found
    ]
    notes = [f"A: {first}", f"B: {second}", *difference_notes([c for c in found if c.method != FULL_PRECISION])]
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


def _blank(row: Row, metric: str) -> Comparison:
    better = next(cell.metrics[metric].better for cell in row.cells if metric in cell.metrics)
    return Comparison(row.method, row.bits, row.variant, metric, "", UNSEEN, better=better)


Rows = Mapping[tuple[str, str, str], Row]


def _filled(blank: Comparison, ours: Rows, theirs: Rows) -> Comparison:
    """The comparison with values and difference, or with the reason why there is none."""
    key = (blank.method, blank.bits, blank.variant)
    mine, other = ours[key].cells, theirs[key].cells
    a, b = arm_of(mine, blank.metric), arm_of(other, blank.metric)
    blank = replace(blank, value=_mean(a), baseline_value=_mean(b))
    if reason := refusal(mine, other, blank.metric):
        return replace(blank, verdict=REFUSED, reason=reason, value=None, baseline_value=None)
    alike = [k for k in ours if k[1] == blank.bits and not ours[k].full_precision]
    pairs = [
        (arm_of(ours[k].cells, blank.metric), arm_of(theirs[k].cells, blank.metric))
        for k in alike
        if _usable(ours[k].cells, theirs[k].cells, blank.metric)
    ]
    return judged(blank, paired_difference(a, b, pool_pairs(pairs)))


def _usable(ours: Sequence[CellRecord], theirs: Sequence[CellRecord], metric: str) -> bool:
    has = all(any(metric in cell.metrics for cell in cells) for cells in (ours, theirs))
    return has and not refusal(ours, theirs, metric)


def _mean(arm: Arm) -> float:
    return float(np.mean(list(arm.values.values())))
