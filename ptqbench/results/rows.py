"""Cells of a run as rows of a comparison: calibration seeds averaged, in reading order."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ptqbench.plugin.names import FULL_PRECISION
from ptqbench.results import formatting, protocols
from ptqbench.results.costs import EVALUATION_STAGES
from ptqbench.results.fits import Finish, finish
from ptqbench.results.record import CellRecord, Number, RunRecord


@dataclass(frozen=True)
class Summary:
    """A metric over the calibration seeds of a row.

    `value`, `low` and `high` are means over seeds: the seeds share their images' noise, so averaging does not shrink
    the image interval. `spread` is the standard deviation over seeds (None for one seed), `seeds` the single values; `unit` is
    what n counts.
    """

    value: float
    low: float
    high: float
    n: int
    better: str
    seeds: tuple[float, ...]
    unit: str

    @property
    def spread(self) -> float | None:
        return statistics.stdev(self.seeds) if len(self.seeds) > 1 else None


@dataclass(frozen=True)
class Row:
    """Method x bits x variant. `cells` succeeded, `failed` did not.

    `refused` has the metrics whose number must not stand beside the others', with the reason; `metrics` lacks them.
    """

    method: str
    bits: str
    variant: str
    cells: tuple[CellRecord, ...]
    failed: tuple[CellRecord, ...]
    metrics: dict[str, Summary]
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str]:
        """What names the row."""
        return self.method, self.bits, self.variant

    @property
    def full_precision(self) -> bool:
        return self.method == FULL_PRECISION

    @property
    def unfinished(self) -> Finish | None:
        """How far the roundings of the row's fits were decided, where that is not far enough; else None."""
        found = finish(fit for cell in self.cells for fit in cell.fits)
        return None if found is None or found.finished else found

    @property
    def label(self) -> str:
        """The row in words, for captions and pictures."""
        return " ".join(part for part in (self.method, "" if self.full_precision else self.bits, self.variant) if part)

    def mean(self, of: Callable[[CellRecord], float]) -> float | None:
        """Mean of a figure over the successful cells; None when there is none."""
        return statistics.fmean(map(of, self.cells)) if self.cells else None


def rows_of(run: RunRecord) -> list[Row]:
    """Rows in reading order: full precision, then by bits, then as the recipe lists methods and variants."""
    grouped: dict[tuple[str, str, str], list[CellRecord]] = {}
    for cell in run.cells:
        grouped.setdefault((cell.method, cell.bits, cell.variant), []).append(cell)
    bits = list(dict.fromkeys(cell.bits for cell in run.cells if cell.method != FULL_PRECISION))
    rows = [_row(cells) for cells in grouped.values()]
    rows.sort(key=lambda row: -1 if row.full_precision else bits.index(row.bits))
    _refuse(rows, run.baseline)
    return rows


def metric_names(rows: Sequence[Row]) -> list[str]:
    """All metrics of a table in column order: the order of the row that has most of them, then what others add."""
    longest = max(rows, key=lambda row: (len(row.metrics) + len(row.refused), len(row.metrics)), default=None)
    first = [longest] if longest else []
    return list(dict.fromkeys(name for row in (*first, *rows) for name in (*row.metrics, *row.refused)))


def calibration_seconds(cell: CellRecord) -> float:
    """Wall seconds of every stage that is not evaluation, as measured when the stage was computed."""
    return sum(cost.seconds for stage, cost in cell.cost.items() if stage not in EVALUATION_STAGES)


def failures(cells: Sequence[CellRecord]) -> dict[str, str]:
    """Why cells of one row failed, in a line each, with the seeds that it happened to: {"out of memory": "seeds 0 to 4"}."""
    found: dict[str, list[int]] = {}
    for cell in cells:
        # A reason and its remedy stand on lines of their own.
        lines = map(formatting.plain, cell.reason.splitlines())
        found.setdefault("; ".join(filter(None, lines)) or "no reason recorded", []).append(cell.seed)
    return {why: f"seed{'s' if len(seeds) > 1 else ''} {formatting.ranges(sorted(seeds))}" for why, seeds in found.items()}


def _row(cells: list[CellRecord]) -> Row:
    fine = tuple(cell for cell in cells if cell.status == "ok")
    failed = tuple(cell for cell in cells if cell.status != "ok")
    names = dict.fromkeys(name for cell in fine for name in cell.metrics)
    metrics = {name: _summary([cell.metrics[name] for cell in fine if name in cell.metrics]) for name in names}
    return Row(cells[0].method, cells[0].bits, cells[0].variant, fine, failed, metrics)


def _summary(numbers: list[Number]) -> Summary:
    return Summary(
        value=statistics.fmean(x.value for x in numbers),
        low=statistics.fmean(x.low for x in numbers),
        high=statistics.fmean(x.high for x in numbers),
        n=min(x.n for x in numbers),
        better=numbers[0].better,
        seeds=tuple(x.value for x in numbers),
        unit=numbers[0].unit,
    )


def _refuse(rows: Sequence[Row], baseline: str) -> None:
    """Take out of each column what was measured under another protocol than the baseline's."""
    first = next((index for index, row in enumerate(rows) if row.method == baseline and row.cells), None)
    cells = {index: row.cells for index, row in enumerate(rows)}
    for name in metric_names(rows):
        for index, reason in protocols.refused(name, cells, first).items():
            rows[index].refused[name] = reason
            del rows[index].metrics[name]
