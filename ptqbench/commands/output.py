"""What the commands share: options, tables, JSON. stdout is the result; everything else goes to stderr."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ptqbench.commands.tables import print_rows
from ptqbench.plugin.component import NOTES, Component, Preset
from ptqbench.plugin.hookspecs import PRESETS, ROLES
from ptqbench.stage.stages import Tell

if TYPE_CHECKING:
    from ptqbench.results.tables import Table

PIPE_WIDTH = 120
"""Columns when stdout is no terminal and COLUMNS is not set."""


TABLE_WIDTH = 100
"""The same for tables of results, which people paste into issues."""


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
plugin_option = click.option(
    "--plugin",
    "plugins",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A single-file plugin to load as well; may be repeated.",
)
role_option = click.option("--role", type=click.Choice([role.name for role in (*ROLES, PRESETS)]), help="Only this role.")


def print_json(data: object) -> None:
    """Print data as JSON on stdout, in ASCII, which every code page has."""
    click.echo(json.dumps(data, indent=2, default=str))


def columns(otherwise: int = PIPE_WIDTH) -> int:
    """Columns of stdout: what COLUMNS says, else the terminal's, else so many."""
    return shutil.get_terminal_size((otherwise, 24)).columns


def table_width() -> int:
    """Columns for tables of results."""
    return columns(TABLE_WIDTH)


def colored() -> bool:
    """Whether results may have colours: on a terminal, unless NO_COLOR is set."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def print_tables(tables: Sequence[Table]) -> None:
    """Print neutral tables on stdout, folded to the terminal's width."""
    from ptqbench.results.console import render

    click.echo(render(tables, table_width(), color=colored()), nl=False)


@contextmanager
def work_on_cell(cell: str) -> Iterator[tuple[Tell, Callable[[str], None]]]:
    """Where the progress of work on a cell goes, and where its notes, which are told when it has ended well."""
    from ptqbench.api.progress import Progress
    from ptqbench.roles.executor import Task

    task, notes = Task("cell", label=cell), list[str]()
    with Progress() as progress:
        progress.announce([task])
        yield partial(progress.report, task), notes.append
    tell_notes(notes)


def tell_notes(notes: Iterable[str]) -> None:
    """Print on stderr what a reader of the result should know."""
    for note in notes:
        click.echo(f"note: {note}", err=True)


def print_wrapped(text: str, indent: str = "  ") -> None:
    """Print a paragraph, its further lines indented twice as far."""
    width = max(columns(), 20)
    inner = indent + "  "
    click.echo(textwrap.fill(text, width, initial_indent=indent, subsequent_indent=inner, break_on_hyphens=False))


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, keep: int = 2, right: Sequence[str] = (), title: str = ""
) -> None:
    """Print rows under a title; the first `keep` columns name a row (see `print_rows`)."""
    if title:
        click.echo(title)
    print_rows(columns(), headings, rows, keep, right)


def notes_entry(described: Component | Preset) -> dict[str, list[str]]:
    """The notes by field, for JSON."""
    return {note: list(getattr(described, note)) for note in NOTES}


def print_notes(described: Component | Preset, indent: str = "  ") -> None:
    """Print the notes, a paragraph each, under the heading of their kind."""
    for note, heading in NOTES.items():
        for text in getattr(described, note):
            print_wrapped(f"{heading}: {text}", indent)


def tell_failures(failed: Mapping[str, str], tracebacks: Mapping[str, Path]) -> None:
    """Say on stderr why each cell failed, and which file has its traceback; both by the cell's id."""
    for cell, reason in failed.items():
        where = f"; traceback: {tracebacks[cell]}" if cell in tracebacks else ""
        click.echo(f"{cell} failed: {next(iter(reason.splitlines()), '')}{where}", err=True)
