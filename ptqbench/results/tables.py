"""Tables in neutral form: what every reporter writes down in its own syntax, so that no two disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ptqbench.results import formatting
from ptqbench.results.captions import UNFINISHED, comparison_notes
from ptqbench.results.record import RunRecord
from ptqbench.results.rows import Row, calibration_seconds, failures, metric_names, rows_of

NOTHING = "\N{EN DASH}"
BASELINE = "*"
NOT_COMPARABLE = "published figures, not measured here: not comparable with the table above"


@dataclass(frozen=True)
class Column:
    """A column. `key` is its machine name; `title` is what to print, `remark` what may stand under it.

    `better` is "lower" or "higher" for a metric, else empty. The first `KEYS` columns of a table name its rows. An
    `optional` column only repeats what other columns and the footnotes say: where space is short it is left out. A `joined`
    one stays beside the column before it.
    """

    key: str
    title: str
    better: str = ""
    remark: str = ""
    exponent: int = 0
    text: bool = False
    optional: bool = False
    joined: bool = False

    @property
    def heading(self) -> str:
        """Title with an arrow towards the better side."""
        arrow = {"lower": "\N{DOWNWARDS ARROW}", "higher": "\N{UPWARDS ARROW}"}.get(self.better)
        return f"{self.title} {arrow}" if arrow else self.title


KEYS = 2


@dataclass(frozen=True)
class Cell:
    """One entry: `text` to print; for a measured number also its unrounded figures, in the unit of the record.

    `note` is the long story (why a cell failed) for where there is room; `plain` is the text for programs where it
    differs. `tone` marks what a reader looks for: a method that is better, one that is worse or failed.
    """

    text: str = NOTHING
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    spread: float | None = None
    note: str = ""
    plain: str = ""
    tone: Literal["", "good", "bad"] = ""


@dataclass(frozen=True)
class Line:
    """A sentence under its label: a bit setting, or "" for what holds for all of them."""

    label: str
    text: str


@dataclass(frozen=True)
class Table:
    """Title, columns, rows of as many cells; `lead` stands between the title and the table, `notes` under it.

    Rows of a `grouped` table with equal second cells stand together: where columns are dear that cell is a line above them.
    """

    title: str
    columns: list[Column]
    rows: list[list[Cell]]
    notes: list[str] = field(default_factory=list)
    lead: list[Line] = field(default_factory=list)
    grouped: bool = False

    @property
    def footnotes(self) -> list[str]:
        """The notes of cells, each led by the cells that name its row: for formats whose columns are too narrow."""
        return [
            f"{' '.join(cell.text for cell in row[:KEYS])} {noted.text}: {noted.note}"
            for row in self.rows
            for noted in row
            if noted.note
        ]


def comparison(run: RunRecord) -> Table:
    """The values of a run with everything that belongs to them: spread over seeds, sizes, budgets."""
    rows = rows_of(run)
    names = metric_names(rows)
    metrics = [metric_column(name, rows) for name in names]
    columns = [Column("method", "method", text=True), Column("bits", "bits", text=True), *metrics, *_COST]
    body = [[*key_cells(row, run.baseline), *(_metric_cell(row, c) for c in metrics), *_cost_cells(row)] for row in rows]
    return Table(f"{run.title or run.name}: values, spreads, budgets", columns, body, comparison_notes(run, rows))


def published(run: RunRecord) -> list[Table]:
    """The figures that the recipe quotes from papers, each source in a table of its own."""
    return [_published(source) for source in run.published]


_COST = [
    Column("seeds", "seeds"),
    Column("weight_kib_simulated", "weights", remark="KiB, sim."),
    Column("calibration_samples", "samples", remark="train+val"),
    Column("calibration_seconds", "calib.", remark="seconds"),
    Column("status", "status", text=True, optional=True),
]


def key_cells(row: Row, baseline: str) -> list[Cell]:
    """The cells that name a row; a star marks the baseline ("" for none), a dagger fits that are unfinished."""
    name = " ".join(part for part in (row.method, row.variant) if part)
    marks = [BASELINE] if row.method == baseline else []
    marks += [UNFINISHED] if row.unfinished else []
    return [Cell(" ".join([name, *marks]), plain=name), Cell(row.bits)]


def metric_column(name: str, rows: Sequence[Row]) -> Column:
    """A metric's column; its unit suits the values of these rows."""
    found = [row.metrics[name] for row in rows if name in row.metrics]
    counts = {x.n for x in found}
    exponent = formatting.power_of_thousand([formatting.typical([x.value for x in found])])
    unit = f"in 1e{exponent}" if exponent else ""
    count = f"n={counts.pop()}" if len(counts) == 1 else ""
    better = found[0].better if found else ""
    return Column(name, name, better, ", ".join(filter(None, (unit, count))), exponent)


def _metric_cell(row: Row, column: Column) -> Cell:
    summary = row.metrics.get(column.key)
    if summary is None:
        return Cell("failed", tone="bad") if not row.cells else Cell(note=row.refused.get(column.key, ""))
    unit = 10.0**-column.exponent
    spread = None if summary.spread is None else summary.spread * unit
    text = formatting.measured(summary.value * unit, summary.low * unit, summary.high * unit, spread)
    if "n=" not in column.remark:
        text += f" (n={summary.n})"
    return Cell(text, summary.value, summary.low, summary.high, summary.n, summary.spread)


def _cost_cells(row: Row) -> list[Cell]:
    done, asked = len(row.cells), len(row.cells) + len(row.failed)
    seeds = Cell(f"{done}" if done == asked else f"{done} of {asked}")
    reasons = "; ".join(f"{seeds}: {reason}" for reason, seeds in failures(row.failed).items())
    status = Cell("failed", note=reasons, tone="bad") if row.failed else Cell("ok")
    kib = size_cell(row)
    if row.full_precision or not row.cells:
        return [Cell() if row.full_precision else seeds, kib, Cell(), Cell(), status]
    budgets = dict.fromkeys((cell.budget.training, cell.budget.validation) for cell in row.cells)
    samples = Cell(" | ".join(f"{training}+{validation}" for training, validation in budgets))
    return [seeds, kib, samples, seconds_cell(row), status]


def size_cell(row: Row) -> Cell:
    """KiB of weights."""
    size = row.mean(lambda cell: cell.weight_bytes / 1024)
    return Cell() if not size else Cell(f"{size:.0f}" if size >= 10 else f"{size:.1f}", size)


def seconds_cell(row: Row) -> Cell:
    """Seconds of calibration."""
    if row.full_precision or not row.cells:
        return Cell()
    spent = row.mean(calibration_seconds) or 0.0
    return Cell(formatting.seconds(spent), spent)


def _published(source: Mapping[str, Any]) -> Table:
    names = list(dict.fromkeys(name for row in source["rows"] for name in row["metrics"]))
    columns = [Column("method", "method", text=True), Column("bits", "bits", text=True), *(Column(x, x) for x in names)]
    places = {name: max(_places(row["metrics"].get(name)) for row in source["rows"]) for name in names}
    body = [
        [
            Cell(str(row["method"])),
            Cell(str(row["bits"])),
            *(_quoted(row["metrics"].get(name), places[name]) for name in names),
        ]
        for row in source["rows"]
    ]
    notes = [f"Source: {source['source']}"] if source.get("source") else []
    return Table(f"{source['title']} ({NOT_COMPARABLE})", columns, body, notes)


def _places(value: float | None) -> int:
    return len(str(value).partition(".")[2]) if isinstance(value, float) else 0


def _quoted(value: float | None, places: int) -> Cell:
    """A published figure, with the zeros at its end that TOML drops: authors print a column with equal decimals."""
    return Cell() if value is None else Cell(f"{value:.{places}f}", float(value))
