"""`ptqbench show RUN`: the tables of a finished run again, or everything about one of its cells."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from ptqbench.boundary.build import build
from ptqbench.commands.output import plugin_option, print_json, print_tables, table_width
from ptqbench.plugin.manager import PluginManager
from ptqbench.recipe.select import find_cell
from ptqbench.results.cell_tables import cell_tables
from ptqbench.results.compare import compared
from ptqbench.results.record import CellRecord, RunRecord
from ptqbench.roles.reporter import Reporter


@click.command("show", short_help="Print the tables of a run again.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--format", "reporter", default="terminal", show_default=True, help="A reporter: terminal, markdown, csv, latex ..."
)
@click.option("--json", "as_json", is_flag=True, help="Print the record itself (with --cell, that cell) as JSON.")
@click.option("--all", "everything", is_flag=True, help="Also spreads, budgets, what could have been seen, published figures.")
@click.option("--cell", "wanted", metavar="ID", help='Print everything about one cell, for example "gacq/W4A8/seed0".')
@plugin_option
def command(run: Path, reporter: str, as_json: bool, everything: bool, wanted: str | None, plugins: tuple[Path, ...]) -> None:
    """Print the main table of RUN, a folder that `ptqbench run` wrote (or its results.json)."""
    record = RunRecord.load(run)
    if wanted is not None:
        _show_cell(find_cell(record.cells, wanted, "run"), as_json)
    elif as_json:
        click.echo(record.to_json(), nl=False)
    else:
        bound = PluginManager(plugins).default("reporter", reporter)
        if everything and "all" in type(bound.options).model_fields:
            # A reporter without this option, such as csv, writes everything anyway.
            bound = dataclasses.replace(bound, options=bound.options.model_copy(update={"all": True}))
        chosen: Reporter = build(bound)
        shown = compared(record)
        click.echo(chosen.render(shown, width=table_width()), nl=False)


def _show_cell(cell: CellRecord, as_json: bool) -> None:
    if as_json:
        print_json(dataclasses.asdict(cell))
    else:
        print_tables(cell_tables(cell))
