"""`ptqbench plan RECIPE`: the cells, which layer gets which bits, and what the run will take."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptqbench.commands.method_words import HEADINGS, method_words
from ptqbench.commands.options import cache_option, device_option, experiment_argument, override_option, profile_option
from ptqbench.commands.output import json_option, print_json, print_table
from ptqbench.recipe.experiment import Cell, Experiment
from ptqbench.results.formatting import grid_words

if TYPE_CHECKING:
    from ptqbench.running.forecast import Forecast


@click.command("plan", short_help="Show cells, layers and a forecast without running.")
@experiment_argument
@profile_option
@override_option
@cache_option
@click.option("--cell", "wanted", metavar="ID", help="The cell whose layers are listed.  [default: the last one]")
@device_option
@json_option
def command(
    recipe: Path, profile: str, overrides: tuple[str, ...], cache: Path, wanted: str | None, device: str, as_json: bool
) -> None:
    """Show what `ptqbench run RECIPE` would do: cells, layers with their grids, forecast of time, memory and disk."""
    from ptqbench.api.plan import plan

    found = plan(recipe, profile=profile, set=overrides, cell=wanted, cache=cache, device=device)
    experiment, cell, ledger, expected = found.experiment, found.cell, found.rows, found.forecast
    if as_json:
        data = {
            "cells": [c.id for c in experiment.cells],
            "layers": {"cell": cell.id, "rows": ledger},
            "forecast": vars(expected) | {"workers": found.settings.workers, "wall": expected.wall(found.settings.workers)},
        }
        print_json(data)
        return
    _print_cells(experiment, expected)
    click.echo("")
    _print_layers(cell, ledger)
    click.echo("")
    click.echo(_summary(expected, found.settings.workers))


def _print_cells(experiment: Experiment, expected: Forecast) -> None:
    rows = [(cell.id, *method_words(cell.method), _time(expected.cells[cell.id])) for cell in experiment.cells]
    title = f"{experiment.name}: {len(experiment.cells)} cells"
    print_table(("cell", *HEADINGS, "forecast"), rows, keep=1, right=("forecast",), title=title)


def _print_layers(cell: Cell, ledger: list[dict[str, Any]]) -> None:
    counts = Counter(grid_words(row["weight"]) for row in ledger if "site" not in row)
    total = ", ".join(f"{n} layers {grid}" for grid, n in counts.most_common())
    rows = [
        (
            f"{row['name']} {row['site']}" if "site" in row else row["name"],
            "-" if "site" in row else grid_words(row["weight"]),
            grid_words(row["activation"]),
            "+".join(map(str, row["partitions"])),
            "; ".join(row["why"]),
            f"{row['macs']:,}",
        )
        for row in ledger
    ]
    headings = ("layer", "weight", "activation", "parts", "exceptions", "MACs")
    print_table(headings, rows, keep=1, right=("parts", "MACs"), title=f"{cell.id}: {total or 'nothing is quantized'}")


def _summary(expected: Forecast, workers: int) -> str:
    features = f" ({_time(expected.features)} of work on features)" if expected.features else ""
    text = (
        f"forecast from scratch: {_time(expected.wall(workers))} on {workers} processes{features}, "
        f"{workers + 1} x {expected.memory_mib:.0f} MiB of memory, {expected.disk_mib:.0f} MiB of cache on disk "
        "(timed on this machine just now; a guide, not a promise)"
    )
    return "\n".join([text, *expected.notes])


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
