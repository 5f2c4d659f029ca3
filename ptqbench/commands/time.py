"""`ptqbench time RUN --cell ID`: what a cell takes when it is executed and not simulated."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from ptqbench.api.result import Run
from ptqbench.commands.options import cache_option
from ptqbench.commands.output import json_option, plugin_option, print_json, print_tables, work_on_cell
from ptqbench.results.executed import executed_tables


@click.command("time", short_help="Execute a cell in an engine, and time it.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--cell", required=True, metavar="ID", help='The cell, for example "nearest/W8A8/seed0".')
@click.option("--engine", default="onnxruntime", show_default=True, help="An engine: onnxruntime, openvino, torch ...")
@click.option("--batch", type=click.IntRange(1), default=16, show_default=True, help="Images of a step.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: all cores]")
@click.option("--repeats", type=click.IntRange(5), default=30, show_default=True, help="Pairs of steps that are timed.")
@click.option("--set", "options", multiple=True, metavar="KEY=VALUE", help="An option of the engine; may be repeated.")
@cache_option
@plugin_option
@json_option
def command(
    run: Path,
    cell: str,
    engine: str,
    batch: int,
    threads: int | None,
    repeats: int,
    options: tuple[str, ...],
    cache: Path,
    plugins: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Time a sampling step of a cell of RUN, a folder that `ptqbench run` wrote, on the CPU: full precision and quantized by
    turns, in the same engine, with the same threads. The result becomes part of the run's record and tables.
    """
    loaded = Run.load(run)
    from ptqbench.api.time import time

    with work_on_cell(cell) as (tell, note):
        found = time(
            loaded,
            cell,
            engine=engine,
            batch=batch,
            threads=threads,
            repeats=repeats,
            set=options,
            cache=cache,
            plugins=plugins,
            progress=tell,
            note=note,
        )
    if as_json:
        print_json(dataclasses.asdict(found))
        return
    timed = [c for c in loaded.record.cells if c.id == cell]
    print_tables(executed_tables(dataclasses.replace(loaded.record, cells=timed)))
