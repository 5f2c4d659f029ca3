"""`ptqbench runs`: the runs below a folder, the latest first, each with its verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import click

from ptqbench.commands.output import json_option, print_json, print_wrapped
from ptqbench.errors import UserError
from ptqbench.plugin.names import FULL_PRECISION
from ptqbench.results.compare import attach_comparisons
from ptqbench.results.headline import headline
from ptqbench.results.record import RunRecord
from ptqbench.results.tables import Line

RESULTS = "results.json"


@click.command("runs")
@click.argument("folder", type=click.Path(path_type=Path), default="runs")
@click.option("--recipe", metavar="NAME", help="Only runs of this recipe.")
@json_option
def command(folder: Path, recipe: str | None, as_json: bool) -> None:
    """List the runs below FOLDER (runs/, where `ptqbench run` writes them), the latest first."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}", "name the one that `ptqbench run --out` wrote to")
    found = [(path, record) for path, record in _records(folder) if recipe in (None, record.name)]
    found.sort(key=lambda run: run[1].created, reverse=True)
    if as_json:
        print_json([_entry(path, record) for path, record in found])
        return
    for number, (path, record) in enumerate(found):
        if number:
            click.echo("")
        click.echo(f"{_when(record)}  {click.style(record.name, bold=True)}  {_cells(record)}  {path}")
        for line in _verdicts(record):
            print_wrapped(f"{line.label}: {line.text}" if line.label else line.text)
    if not found:
        click.echo(f"no runs in {folder}" + (f" of {recipe}" if recipe else ""))


def _records(folder: Path) -> Iterator[tuple[Path, RunRecord]]:
    """The records that can be read; what is wrong with others is told."""
    for path in sorted(folder.rglob(RESULTS)):
        try:
            yield path.parent, RunRecord.load(path)
        except UserError as error:
            click.echo(f"left out: {error.message}", err=True)


def _verdicts(record: RunRecord) -> list[Line]:
    """The sentences of each bit setting; of a run whose rows all failed, why."""
    rows = [cell for cell in record.cells if cell.method != FULL_PRECISION] or record.cells
    if all(cell.status != "ok" for cell in rows):
        return [Line("", reason.splitlines()[0]) for reason in dict.fromkeys(cell.reason for cell in rows) if reason]
    return headline(record if record.comparisons else attach_comparisons(record))[1:]


def _cells(record: RunRecord) -> str:
    failed = sum(cell.status != "ok" for cell in record.cells)
    return f"{len(record.cells)} cells" + (f", {failed} failed" if failed else "")


def _when(record: RunRecord) -> str:
    try:
        return f"{datetime.fromisoformat(record.created).astimezone():%Y-%m-%d %H:%M}"
    except ValueError:
        return record.created


def _entry(path: Path, record: RunRecord) -> dict[str, object]:
    return {
        "folder": str(path),
        "recipe": record.name,
        "digest": record.digest,
        "created": record.created,
        "cells": len(record.cells),
        "failed": [cell.id for cell in record.cells if cell.status != "ok"],
        "verdicts": {line.label: line.text for line in _verdicts(record)},
    }
