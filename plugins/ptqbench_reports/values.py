"""The reporter "csv": figures for other programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from ptqbench.results.record import RunRecord
from ptqbench.results.tables import NOTHING, Cell, Column, comparison
from ptqbench.roles.reporter import Reporter

PARTS = ("", "low", "high", "n", "spread")
"""The columns of a metric: its value, interval, count, and standard deviation over calibration seeds."""


class CsvReporter(Reporter):
    """The measured comparison only: published figures and notes are for readers, and stand in the other formats."""

    suffix = ".csv"

    def render(self, run: RunRecord, *, width: int | None = None) -> str:
        """A heading line and a line per row; figures are not rounded, what is missing is empty."""
        table = comparison(run)
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([*(name for column in table.columns for name in _names(column)), "reason"])
        for row in table.rows:
            entries = [text for column, cell in zip(table.columns, row, strict=True) for text in _entries(column, cell)]
            writer.writerow([*entries, "; ".join(cell.note for cell in row if cell.note)])
        return out.getvalue()


def _names(column: Column) -> list[str]:
    if not column.better:
        return [column.key]
    return [f"{column.key} {part}".strip() for part in PARTS]


def _entries(column: Column, cell: Cell) -> Iterator[str]:
    if column.better:
        for figure in (cell.value, cell.low, cell.high, cell.n, cell.spread):
            yield "" if figure is None else repr(figure)
    elif cell.value is not None:
        yield repr(cell.value)
    else:
        yield "" if cell.text == NOTHING else cell.plain or cell.text
