"""`ptqbench runs`: the runs below a folder, the latest first, each with its verdicts."""

from __future__ import annotations

from pathlib import Path

import click

from ptqbench.commands.output import json_option, print_json, print_wrapped
from ptqbench.results.history import Past, past_runs


@click.command("runs")
@click.argument("folder", type=click.Path(path_type=Path), default="runs")
@click.option("--recipe", metavar="NAME", help="Only runs of this recipe.")
@json_option
def command(folder: Path, recipe: str | None, as_json: bool) -> None:
    """List the runs below FOLDER (runs/, where `ptqbench run` writes them), the latest first."""
    found = past_runs(folder, lambda reason: click.echo(f"left out: {reason}", err=True))
    found = [past for past in found if recipe in (None, past.record.name)]
    if as_json:
        print_json([_entry(past) for past in found])
        return
    for number, past in enumerate(found):
        if number:
            click.echo("")
        click.echo(f"{past.when}  {click.style(past.record.name, bold=True)}  {past.size}  {past.folder}")
        for line in past.verdicts:
            print_wrapped(f"{line.label}: {line.text}" if line.label else line.text)
    if not found:
        click.echo(f"no runs in {folder}" + (f" of {recipe}" if recipe else ""))


def _entry(past: Past) -> dict[str, object]:
    return {
        "folder": str(past.folder),
        "recipe": past.record.name,
        "digest": past.record.digest,
        "created": past.record.created,
        "cells": len(past.record.cells),
        "failed": past.failed,
        "verdicts": {line.label: line.text for line in past.verdicts},
    }
