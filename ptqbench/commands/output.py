"""What the commands share: options, tables, JSON. stdout is the result; everything else goes to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ptqbench.plugins import PluginManager

F = TypeVar("F", bound=Callable[..., Any])

NARROW = 76
"""Below this many columns a table would be all wrapping, so entries are stacked instead."""

PIPE_WIDTH = 120
"""Columns when stdout is no terminal and COLUMNS is not set."""


def json_option(function: F) -> F:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def plugin_option(function: F) -> F:
    """Add `--plugin FILE`, any number of times."""
    path = click.Path(path_type=Path)
    help_text = "A single-file plugin to load as well; may be repeated."
    return click.option("--plugin", "plugins", type=path, multiple=True, metavar="FILE", help=help_text)(function)


def manager_with(files: Sequence[Path]) -> PluginManager:
    """The installed plugins and these files."""
    manager = PluginManager()
    for file in files:
        manager.load_file(file)
    return manager


def print_json(data: object) -> None:
    """Print data as JSON on stdout."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False, default=str))


def console() -> Console:
    """stdout: colours on a terminal only, and as wide as the terminal or as COLUMNS says."""
    wide = None if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit() else PIPE_WIDTH
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False, width=wide, soft_wrap=False)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, keep: int = 2) -> None:
    """Print rows; the first `keep` columns are never wrapped, and the last takes what is left."""
    out = console()
    if out.width < NARROW:
        for row in rows:
            click.echo("  ".join(row[:keep]))
            for heading, value in zip(headings[keep:], row[keep:], strict=True):
                if value:
                    click.echo(f"    {heading}: {value}")
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for i, heading in enumerate(headings):
        table.add_column(heading, no_wrap=i < keep, overflow="fold")
    for row in rows:
        table.add_row(*(Text(value) for value in row))
    with out.capture() as capture:
        out.print(table)
    # rich pads every line to the full width.
    click.echo("\n".join(line.rstrip() for line in capture.get().rstrip("\n").splitlines()))
