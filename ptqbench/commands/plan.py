"""`ptqbench plan RECIPE`: the cells, which layer gets which bits, and what the run will take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptqbench.commands.options import cache_option, device_option, experiment_argument, override_option, profile_option
from ptqbench.commands.output import json_option, print_json, print_table
from ptqbench.plugin.names import row_name
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
@click.option("--layers", "each", is_flag=True, help="List every layer; otherwise they are folded by block and grid.")
@device_option
@json_option
def command(
    recipe: Path,
    profile: str,
    overrides: tuple[str, ...],
    cache: Path,
    wanted: str | None,
    each: bool,
    device: str,
    as_json: bool,
) -> None:
    """Show what `ptqbench run RECIPE` would do: cells with their time, grids of one cell, forecast of time, memory and disk."""
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
    _print_layers(cell, ledger, each)
    click.echo("")
    click.echo(_summary(expected, found.settings.workers))


def _print_cells(experiment: Experiment, expected: Forecast) -> None:
    """A row for each method, a column for each bit setting: cells of several seeds take the same time."""
    times: dict[str, dict[str, float]] = {}
    for cell in experiment.cells:
        if cell.method is not None:
            times.setdefault(row_name(cell.name, "", cell.variant), {}).setdefault(cell.bits, expected.cells[cell.id])
    bits = list(dict.fromkeys(bits for row in times.values() for bits in row))
    rows = [(name, *(_time(row[b]) if b in row else "" for b in bits)) for name, row in times.items()]
    seeds = len({cell.seed for cell in experiment.cells if cell.method is not None})
    each = f" of {seeds} seeds, the time of one each" if seeds > 1 else ""
    title = f"{experiment.name}: {len(experiment.cells)} cells{each}; what they share takes {_time(expected.shared)}"
    print_table(("method", *bits), rows, keep=1, right=bits, title=title)


def _print_layers(cell: Cell, ledger: list[dict[str, Any]], each: bool) -> None:
    counts = Counter(grid_words(row["weight"]) for row in ledger if "site" not in row)
    total = ", ".join(f"{n} layers {grid}" for grid, n in counts.most_common())
    title = f"{cell.id}: {total or 'nothing is quantized'}"
    if each:
        headings = ("layer", *_GRIDS, "parts", "MACs")
        rows = [
            (f"{row['name']} {row.get('site', '')}".rstrip(), *_grids(row), _parts(row), f"{row['macs']:,}") for row in ledger
        ]
        print_table(headings, rows, keep=1, right=("parts", "MACs"), title=title)
    else:
        print_table(("layers", *_GRIDS, "of MACs", "blocks"), _folded(ledger), keep=1, right=("layers", "of MACs"), title=title)


_GRIDS = ("weight", "activation", "exceptions")


def _grids(row: dict[str, Any]) -> tuple[str, str, str]:
    """One entry for each of `_GRIDS`."""
    weight = "-" if "site" in row else grid_words(row["weight"])
    return weight, grid_words(row["activation"]), "; ".join(row["why"])


def _parts(row: dict[str, Any]) -> str:
    return "+".join(map(str, row["partitions"]))


def _folded(ledger: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """A row for layers that have the same grids, or sites of attentions that have: how many, their share of MACs, where."""
    whole = sum(row["macs"] for row in ledger) or 1
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in ledger:
        found.setdefault(_grids(row), []).append(row)
    return [
        (
            f"{len(rows)} sites" if "site" in rows[0] else str(len(rows)),
            *same,
            f"{sum(row['macs'] for row in rows) / whole:.1%}",
            ", ".join(_blocks(row["name"] for row in rows)),
        )
        for same, rows in found.items()
    ]


def _blocks(names: Iterable[str]) -> Iterable[str]:
    """Outermost modules of layers, numbered ones of one name together: "conv_in", "down_blocks.0-2"."""
    numbers: dict[str, set[int]] = {}
    for name in names:
        first, _, rest = name.partition(".")
        number = rest.partition(".")[0]
        numbers.setdefault(first, set()).update([int(number)] if number.isdecimal() else [])
    for first, of in numbers.items():
        yield f"{first}.{_ranges(sorted(of))}" if of else first


def _ranges(numbers: list[int]) -> str:
    """For example "0-2,5"."""
    runs = [[n for _, n in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


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
