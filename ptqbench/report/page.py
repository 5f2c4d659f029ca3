"""The page: everything about a run in one HTML file that needs no script and no network."""

from __future__ import annotations

import base64
import io
import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from ptqbench.report.figures import figures_of
from ptqbench.results.executed import executed_tables
from ptqbench.results.fit_tables import fit_tables, fitted_rows
from ptqbench.results.formatting import grid_words
from ptqbench.results.gallery import AMPLIFIED
from ptqbench.results.overview import overview
from ptqbench.results.record import CellRecord, RunRecord
from ptqbench.results.report import details
from ptqbench.results.rows import failures, rows_of
from ptqbench.results.tables import Cell, Column, Table
from ptqbench.version import __version__

MOST_LEDGER_ROWS = 4000
"""Rows of ledgers in a page: those of a network with some hundred layers, at every bit setting."""

MOST_PICTURE_BYTES = 2_500_000
"""A larger picture of samples is reduced."""


@dataclass(frozen=True)
class Picture:
    """An embedded picture: a `data:` address, its size in pixels, and by what factor it was reduced."""

    source: str
    width: int
    height: int
    reduced: int


def failure_table(run: RunRecord) -> Table | None:
    """Rows with cells that failed, and why; None for a run without any."""
    rows = [[Cell(row.label), Cell(seeds), Cell(why)] for row in rows_of(run) for why, seeds in failures(row.failed).items()]
    columns = [Column(name, name, text=True) for name in ("row", "seeds", "reason")]
    return Table("Cells that failed", columns, rows) if rows else None


def ledger_tables(run: RunRecord) -> tuple[list[Table], list[str]]:
    """Every different ledger once, titled by the rows that have it, and the rows whose ledgers are too many for a page."""
    groups: dict[str, list[CellRecord]] = {}
    for cell in run.cells:
        if cell.ledger:
            groups.setdefault(cell.ledger_hash or cell.id, []).append(cell)
    tables, left, room = list[Table](), list[str](), MOST_LEDGER_ROWS
    for cells in groups.values():
        title = ", ".join(dict.fromkeys(" ".join(filter(None, (c.method, c.bits, c.variant))) for c in cells))
        room -= len(cells[0].ledger)
        if room < 0:
            left.append(title)
        else:
            tables.append(_ledger(title, cells[0]))
    return tables, left


def _ledger(title: str, cell: CellRecord) -> Table:
    columns = [Column("layer", "layer", text=True), Column("kind", "kind", text=True)]
    columns += [Column("weight", "weight grid", text=True), Column("activation", "activation grid", text=True)]
    columns += [Column("weights", "weights"), Column("bytes", "bytes"), Column("macs", "MACs"), Column("why", "why", text=True)]
    return Table(title, columns, [_layer(row) for row in cell.ledger])


def _layer(row: Mapping[str, Any]) -> list[Cell]:
    site = str(row.get("site", ""))
    counts = [Cell(f"{row[key]}") if row.get(key) else Cell() for key in ("weights", "weight_bytes", "macs")]
    words = "" if site else grid_words(row.get("weight"))
    return [
        Cell(" ".join(filter(None, (str(row.get("name", "")), site)))),
        Cell(str(row.get("kind", ""))),
        Cell(words) if words else Cell(),
        Cell(grid_words(row.get("activation"))),
        *counts,
        Cell("; ".join(map(str, row.get("why") or ())) or "as the method says"),
    ]


def facts(title: str, known: Mapping[str, Any]) -> Table | None:
    """Names and what they stand for; None when there are none."""
    rows = [[Cell(str(name)), Cell(_words(value))] for name, value in known.items() if value not in ("", None)]
    return Table(title, [Column("what", "what", text=True), Column("value", "value", text=True)], rows) if rows else None


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def command(run: RunRecord) -> str:
    """What to type to get these numbers again; "" where the record does not know."""
    return f"ptqbench run {shlex.join(run.invocation)}" if run.invocation else ""


def picture(path: Path) -> Picture | None:
    """The picture at `path`, small enough for a page; None where there is none or it cannot be read."""
    try:
        data = path.read_bytes()
        image = Image.open(io.BytesIO(data)).convert("RGB")
    except (OSError, Image.DecompressionBombError):
        return None
    factor = 1
    shown = image
    while len(data) > MOST_PICTURE_BYTES and min(shown.size) > 1:
        factor *= 2
        shown = image.reduce(factor)
        out = io.BytesIO()
        shown.save(out, format="PNG", optimize=True)
        data = out.getvalue()
    return Picture(f"data:image/png;base64,{base64.b64encode(data).decode()}", *shown.size, factor)


HEADINGS = {
    "differences": "Differences to the baseline",
    "quality": "Quality against bytes",
    "timesteps": "Error by timestep",
    "layers": "Which layers cost most",
    "weights": "Learned weights",
    "gradients": "Gradients of timestep groups",
}
SAMPLES = "samples.png"


def templates() -> Environment:
    """The templates of all pages, with text escaped."""
    return Environment(
        loader=PackageLoader("ptqbench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(run: RunRecord, folder: Path | None = None, left_out: Callable[[str], object] = lambda _: None) -> str:
    """The page of a run with comparisons; `folder` is where its picture of samples and its diagnosis lie, and `left_out` is
    told which diagnosis is not shown, and why."""
    ledgers, left = ledger_tables(run)
    figures = [
        (heading, HEADINGS[heading], [(chart, Markup(chart.inline())) for chart in charts])
        for heading, charts in figures_of(run, folder, left_out).items()
    ]
    return (
        templates()
        .get_template("page.html")
        .render(
            run=run,
            main=overview(run, alone=False),
            executed=executed_tables(run),
            details=details(run),
            fits=fit_tables(fitted_rows(run)),
            figures=figures,
            failures=failure_table(run),
            samples=picture(folder / SAMPLES) if folder else None,
            amplified=AMPLIFIED,
            ledgers=ledgers,
            ledgers_left=left,
            protocol=facts("What was held equal", run.protocol),
            environment=facts("Where it was computed", {**run.environment, "recipe's digest": run.digest}),
            methods={name: json.dumps(choices, indent=1) for name, choices in run.methods.items()},
            recipe=json.dumps(run.recipe, indent=1) if run.recipe else "",
            command=command(run),
            version=__version__,
        )
    )
