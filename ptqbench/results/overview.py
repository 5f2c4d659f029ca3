"""The main table: a row for each method and bit setting, every number beside its difference to the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from ptqbench.results import formatting
from ptqbench.results.captions import overview_notes
from ptqbench.results.difference_table import difference_cell
from ptqbench.results.headline import headline
from ptqbench.results.protocols import in_place
from ptqbench.results.record import Comparison, RunRecord
from ptqbench.results.rows import Row, metric_names, rows_of
from ptqbench.results.tables import Cell, Column, Table, key_cells, metric_column, seconds_cell, size_cell
from ptqbench.results.uncertainty import Spread, interval, spreads

_COST = [Column("weight_kib_simulated", "weights", remark="KiB"), Column("calibration_seconds", "calib.", remark="seconds")]


def overview(run: RunRecord, *, alone: bool = True) -> Table:
    """The main table with the sentences before it, and how to read it; `alone` where a reader has to ask for the rest."""
    rows = rows_of(run)
    found = {(c.method, c.bits, c.variant, c.metric): c for c in run.comparisons}
    compared = {c.metric for c in run.comparisons}
    columns = [Column("method", "method", text=True), Column("bits", "bits", text=True)]
    body = [key_cells(row, "") for row in rows]
    for name in metric_names(rows):
        column, spread = metric_column(name, rows), spreads(rows, name)
        columns.append(column)
        for row, cells in zip(rows, body, strict=True):
            cells.append(_value(row, column, spread))
        if name in compared:
            columns.append(Column(f"{name} difference", f"vs {run.baseline}", joined=True))
            for row, cells in zip(rows, body, strict=True):
                cells.append(_difference(row, found.get((*row.key, name)), column.exponent, run.baseline))
    for row, cells in zip(rows, body, strict=True):
        cells += [size_cell(row), seconds_cell(row)]
    return Table(
        run.title or run.name,
        [*columns, *_COST],
        body,
        overview_notes(run, rows, alone),
        lead=headline(run),
        grouped=_grouped(rows),
    )


def _value(row: Row, column: Column, spread: Mapping[str, Spread]) -> Cell:
    """A metric of a row with its interval over images and calibration seeds; a word for what is missing."""
    summary = row.metrics.get(column.key)
    if summary is None:
        why = row.refused.get(column.key)
        return Cell("failed", tone="bad") if not row.cells else Cell(in_place(why)) if why else Cell()
    unit = 10.0**-column.exponent
    low, high = interval(summary, spread.get(row.bits))
    text = formatting.measured(summary.value * unit, low * unit, high * unit)
    if "n=" not in column.remark:
        text += f" (n={summary.n})"
    return Cell(text, summary.value, low, high, summary.n)


def _difference(row: Row, comparison: Comparison | None, exponent: int, baseline: str) -> Cell:
    """The difference to the baseline in the unit 10^exponent, and the verdict in a word."""
    if row.method == baseline:
        return Cell("baseline") if row.cells else Cell("failed", tone="bad")
    # Why numbers are not comparable stands in the sentences and notes: here it would be a footnote for every metric.
    return replace(difference_cell(comparison, exponent), note="")


def _grouped(rows: Sequence[Row]) -> bool:
    """Whether all rows of the same bits stand together."""
    settings = [row.bits for row in rows]
    changes = sum(a != b for a, b in pairwise(settings))
    return changes + 1 == len(set(settings))
