"""The reporter "csv": figures for other programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from ptqbench.results.record import Comparison, RunRecord
from ptqbench.results.rows import metric_names, rows_of
from ptqbench.results.tables import NOTHING, Cell, Column, comparison
from ptqbench.roles.reporter import Reporter

PARTS = ("", "low", "high", "n", "spread")
"""The columns of a metric: its value, interval, count, and standard deviation over calibration seeds."""

DIFFERENCE = ("difference", "low", "high", "p_adjusted", "detectable", "verdict")
"""The columns of a metric's difference to the baseline, named like the fields of the record's `comparisons`."""


class CsvReporter(Reporter):
    """Measured figures only: published ones and notes are for readers, and stand in the other formats."""

    suffix = ".csv"

    def render(self, run: RunRecord, *, width: int | None = None) -> str:
        """A heading line and a line per row; figures are not rounded, what is missing is empty.

        The differences to the baseline, where there are any, are the last columns.
        """
        table = comparison(run)
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        rows, found = rows_of(run), {(c.method, c.bits, c.variant, c.metric): c for c in run.comparisons}
        metrics = metric_names(rows) if found else []
        titles = [f"{metric} {_title(part)}" for metric in metrics for part in DIFFERENCE]
        writer.writerow([*(name for column in table.columns for name in _names(column)), "reason", *titles])
        for row, cells in zip(rows, table.rows, strict=True):
            entries = [text for column, cell in zip(table.columns, cells, strict=True) for text in _entries(column, cell)]
            reasons = "; ".join(cell.note for cell in cells if cell.note)
            differences = [text for metric in metrics for text in _difference(found.get((*row.key, metric)))]
            writer.writerow([*entries, reasons, *differences])
        return out.getvalue()


def _names(column: Column) -> list[str]:
    if not column.better:
        return [column.key]
    return [f"{column.key} {part}".strip() for part in PARTS]


def _title(part: str) -> str:
    return f"difference {part}" if part in ("low", "high") else part.replace("_", " ")


def _difference(comparison: Comparison | None) -> Iterator[str]:
    for part in DIFFERENCE:
        value = None if comparison is None else getattr(comparison, part)
        yield "" if value is None else str(value)


def _entries(column: Column, cell: Cell) -> Iterator[str]:
    if column.better:
        for figure in (cell.value, cell.low, cell.high, cell.n, cell.spread):
            yield "" if figure is None else repr(figure)
    elif cell.value is not None:
        yield repr(cell.value)
    else:
        yield "" if cell.text == NOTHING else cell.plain or cell.text
