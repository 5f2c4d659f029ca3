"""`ptqbench plan RECIPE`: the cells, which layer gets which bits, and what the run will take."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptqbench.commands.method_words import HEADINGS, method_words
from ptqbench.commands.options import (
    cache_option,
    device_option,
    experiment_argument,
    find_cell,
    override_option,
    settings_for,
)
from ptqbench.commands.output import json_option, print_json, print_table
from ptqbench.errors import CellFailedError
from ptqbench.failures import blamed
from ptqbench.recipe.experiment import Cell, Experiment
from ptqbench.recipe.load import load_experiment
from ptqbench.results.formatting import grid_words

if TYPE_CHECKING:
    from ptqbench.running.forecast import Forecast


@click.command("plan", short_help="Show cells, layers and a forecast without running.")
@experiment_argument
@override_option
@cache_option
@click.option("--cell", "wanted", metavar="ID", help="The cell whose layers are listed.  [default: the last one]")
@device_option
@json_option
@blamed("the plan")
def command(recipe: Path, overrides: tuple[str, ...], cache: Path, wanted: str | None, device: str, as_json: bool) -> None:
    """Show what `ptqbench run RECIPE` would do: cells, layers with their grids, forecast of time, memory and disk."""
    experiment = load_experiment(recipe, overrides=overrides)
    cell = experiment.cells[-1] if wanted is None else find_cell(experiment.cells, wanted, "recipe")
    from ptqbench.running.forecast import cell_ledger, forecast
    from ptqbench.running.preflight import preflight
    from ptqbench.stage.context import RunContext

    settings = settings_for(cache, device)
    ctx = RunContext.of(experiment, settings)
    found = preflight(ctx)
    found.require_shared()
    if found.cells:
        message = f"{len(found.cells)} of {len(experiment.cells)} cells would fail; `ptqbench run` computes the others"
        raise CellFailedError(message, "\n".join(found.lines()))
    ledger = cell_ledger(ctx, cell)
    expected = forecast(ctx)
    if as_json:
        data = {
            "cells": [c.id for c in experiment.cells],
            "layers": {"cell": cell.id, "rows": ledger},
            "forecast": vars(expected) | {"workers": settings.workers, "wall": expected.wall(settings.workers)},
        }
        print_json(data)
        return
    _print_cells(experiment, expected)
    click.echo("")
    _print_layers(cell, ledger)
    click.echo("")
    click.echo(_summary(expected, settings.workers))


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
