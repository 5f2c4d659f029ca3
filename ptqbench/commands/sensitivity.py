"""`ptqbench sensitivity RUN --cell ID`: which layers cost a cell most."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from ptqbench.api.result import Run
from ptqbench.commands.options import cache_option
from ptqbench.commands.output import json_option, print_json, print_tables, work_on_cell
from ptqbench.results.sensitivity import MOST, sensitivity_table


@click.command("sensitivity")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--cell", required=True, metavar="ID", help='The cell, for example "gacq/W4A8/seed0".')
@click.option("--trajectories", type=click.IntRange(2), default=16, show_default=True, help="Held-out trajectories to look at.")
@click.option("--all", "everything", is_flag=True, help=f"Print all sites, and not the {MOST} that cost most.")
@cache_option
@json_option
def command(run: Path, cell: str, trajectories: int, everything: bool, cache: Path, as_json: bool) -> None:
    """Put one layer or attention of a cell of RUN at a time back into full precision, and say how much of the error goes.

    Nothing is fitted anew. The result becomes part of the run's record and of its report.
    """
    loaded = Run.load(run)
    from ptqbench.api.sensitivity import sensitivity

    with work_on_cell(cell) as (tell, note):
        found = sensitivity(loaded, cell, trajectories=trajectories, cache=cache, progress=tell, note=note)
    if as_json:
        print_json({name: dataclasses.asdict(share) for name, share in found.items()})
        return
    (shown,) = (one for one in loaded.record.cells if one.id == cell)
    print_tables([sensitivity_table(shown, None if everything else MOST)])
