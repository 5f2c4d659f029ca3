"""`ptqbench show RUN`: the tables of a finished run again, or everything about one of its cells."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import click

from ptqbench.plugins import PluginManager
from ptqbench.results import console
from ptqbench.results.cell_tables import cell_tables, find_cell
from ptqbench.results.record import CellRecord, RunRecord
from ptqbench.roles.reporter import Reporter


@click.command("show", short_help="Print the tables of a run again.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--format", "reporter", default="terminal", show_default=True, help="A reporter: terminal, markdown, csv, latex ..."
)
@click.option("--json", "as_json", is_flag=True, help="Print the record itself (with --cell, that cell) as JSON.")
@click.option("--cell", "wanted", metavar="ID", help='Print everything about one cell, for example "gacq/W4A8/seed0".')
def command(run: Path, reporter: str, as_json: bool, wanted: str | None) -> None:
    """Print the tables of RUN, a folder that `ptqbench run` wrote (or its results.json)."""
    record = RunRecord.load(run)
    if wanted is not None:
        click.echo(_cell_text(find_cell(record, wanted), as_json), nl=False)
    elif as_json:
        click.echo(record.to_json(), nl=False)
    else:
        click.echo(_reporter(reporter).render(record, width=_width()), nl=False)


def _cell_text(cell: CellRecord, as_json: bool) -> str:
    if as_json:
        return json.dumps(dataclasses.asdict(cell), indent=1) + "\n"
    return console.render(cell_tables(cell), _width(), color=sys.stdout.isatty())


def _reporter(name: str) -> Reporter:
    reporter: Reporter = PluginManager().find("reporter", name).component.create()
    return reporter


def _width() -> int:
    return shutil.get_terminal_size((100, 24)).columns
