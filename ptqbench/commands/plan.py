"""`ptqbench plan RECIPE`: the cells, which layer gets which bits, and what the run will take."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from ptqbench.commands.options import cache_option, experiment_argument, override_option
from ptqbench.errors import UserError
from ptqbench.recipe.experiment import Cell, Experiment
from ptqbench.recipe.load import load_experiment

if TYPE_CHECKING:
    from ptqbench.engine.forecast import Forecast


@click.command("plan", short_help="Show cells, layers and a forecast without running.")
@experiment_argument
@override_option
@cache_option
@click.option("--cell", "wanted", metavar="ID", help="The cell whose layers are listed.  [default: the last one]")
@click.option("--device", default="auto", show_default=True, help='"cpu", "cuda", "mps" ..., or "auto".')
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def command(recipe: Path, overrides: tuple[str, ...], cache: Path, wanted: str | None, device: str, as_json: bool) -> None:
    """Show what `ptqbench run RECIPE` would do: cells, layers with their grids, forecast of time, memory and disk."""
    experiment = load_experiment(recipe, overrides=overrides)
    cell = find_cell(experiment, wanted)
    import torch

    from ptqbench.engine.cache import Cache
    from ptqbench.engine.context import RunContext, pick_device
    from ptqbench.engine.executor import default_threads, default_workers
    from ptqbench.engine.forecast import cell_ledger, forecast

    chosen = pick_device(device)
    workers = default_workers(chosen)
    torch.set_num_threads(default_threads(chosen, workers))
    ctx = RunContext(experiment, Cache(cache), chosen)
    ledger = cell_ledger(ctx, cell)
    expected = forecast(ctx)
    if as_json:
        data = {
            "cells": [c.id for c in experiment.cells],
            "layers": {"cell": cell.id, "rows": ledger},
            "forecast": vars(expected) | {"workers": workers, "wall": expected.wall(workers)},
        }
        click.echo(json.dumps(data, indent=1))
        return
    console = Console()
    console.print(_cells(experiment, expected))
    console.print(_layers(cell, ledger))
    console.print(_summary(expected, workers), highlight=False)


def find_cell(experiment: Experiment, wanted: str | None) -> Cell:
    """The cell with this id, or the last one. Raises `UserError` listing what there is."""
    if wanted is None:
        return experiment.cells[-1]
    for cell in experiment.cells:
        if cell.id == wanted:
            return cell
    raise UserError(f"no cell {wanted!r} in this recipe", "there are: " + ", ".join(c.id for c in experiment.cells))


def _cells(experiment: Experiment, expected: Forecast) -> Table:
    table = _table(f"{experiment.name}: {len(experiment.cells)} cells")
    table.add_column("cell", no_wrap=True)
    for heading in ("sampler", "weighter", "reconstruction", "weights", "activations"):
        table.add_column(heading)
    table.add_column("forecast", justify="right", no_wrap=True)
    for cell in experiment.cells:
        m = cell.method
        if m is None:
            table.add_row(cell.id, *["-"] * 5, _time(expected.cells[cell.id]))
            continue
        weights = "-" if m.weights.off else f"{m.weights.quantizer.name}/{m.weights.range.name}"
        activations = "-" if m.activations.off else f"{m.activations.quantizer.name}/{m.activations.range.name}"
        names = (m.sampler.name, m.weighter.name, m.reconstruction.name)
        table.add_row(cell.id, *names, weights, activations, _time(expected.cells[cell.id]))
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def _layers(cell: Cell, ledger: list[dict[str, Any]]) -> Table:
    counts = Counter(_grid(row["weight"]) for row in ledger)
    total = ", ".join(f"{n} layers {grid}" for grid, n in counts.most_common())
    table = _table(f"{cell.id}: {total or 'nothing is quantized'}")
    table.add_column("layer", overflow="fold", min_width=34)
    for heading in ("weight", "activation", "parts"):
        table.add_column(heading, no_wrap=True)
    table.add_column("exceptions")
    table.add_column("MACs", justify="right", no_wrap=True)
    for row in ledger:
        partitions = "+".join(map(str, row["partitions"]))
        grids = _grid(row["weight"]), _grid(row["activation"])
        table.add_row(row["name"], *grids, partitions, "; ".join(row["why"]), f"{row['macs']:,}")
    return table


def _grid(spec: dict[str, Any] | None) -> str:
    if spec is None:
        return "32 bit"
    symmetric = ", symmetric" if spec["symmetric"] else ""
    steps = f", {spec['steps']} step groups" if spec["steps"] > 1 else ""
    return f"{spec['bits']} bit/{spec['per']}{symmetric}{steps}"


def _summary(expected: Forecast, workers: int) -> str:
    return (
        f"forecast from scratch: {_time(expected.wall(workers))} on {workers} processes, "
        f"{workers + 1} x {expected.memory_mib:.0f} MiB of memory, {expected.disk_mib:.0f} MiB of cache on disk "
        "(timed on this machine just now; a guide, not a promise)"
    )


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
