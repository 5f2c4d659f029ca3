"""`ptqbench run RECIPE`: compute a comparison, print its table, write results.json, the tables and the picture."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from ptqbench.api.recipe import load_recipe
from ptqbench.api.result import later
from ptqbench.commands.options import (
    cache_option,
    device_option,
    experiment_argument,
    only_option,
    override_option,
    profile_option,
    threads_option,
    workers_option,
)
from ptqbench.commands.output import table_width, tell_failures
from ptqbench.errors import EXIT_CELL_FAILED, UserError
from ptqbench.recipe.experiment import Experiment
from ptqbench.results.costs import FAILED
from ptqbench.results.record import CellRecord


def _shard(_: click.Context, __: click.Parameter, given: str | None) -> tuple[int, int] | None:
    """I/N as numbers."""
    if given is None:
        return None
    index, _slash, count = given.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise click.BadParameter(f"{given!r} is no part of a run: 0/4, 1/4, 2/4 and 3/4 are those of four")
    return int(index), int(count)


@click.command("run", short_help="Run a comparison.")
@experiment_argument
@profile_option
@override_option
@only_option
@click.option("--out", type=click.Path(path_type=Path), help="Where results go.  [default: runs/<recipe>/<time>-<hash>]")
@cache_option
@device_option
@workers_option
@threads_option
@click.option("--executor", default="local", show_default=True, help='Who does the work: "local", "ray", a plugin\'s.')
@click.option("--address", help='The cluster of the executor: host:port, or "auto".')
@click.option("--shard", metavar="I/N", callback=_shard, help="Only the I-th of N parts, from 0; `run` without it collects.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON instead of tables.")
def command(
    recipe: Path,
    profile: str,
    overrides: tuple[str, ...],
    only: tuple[str, ...],
    out: Path | None,
    cache: Path,
    device: str,
    workers: int | None,
    threads: int | None,
    executor: str,
    address: str | None,
    shard: tuple[int, int] | None,
    as_json: bool,
) -> None:
    """Run the comparison that RECIPE describes.

    Finished stages are kept in the cache: after an interruption the same command continues where it stopped. A cell that
    fails leaves its traceback in the folder errors/ beside the results.
    """
    experiment = load_recipe(recipe, profile=profile, set=overrides, only=only)
    from ptqbench.api.run import run, run_shard

    where: dict[str, Any] = {"cache": cache, "device": device, "workers": workers, "threads": threads, "progress": True}
    where["executor"] = {"use": executor, **({"address": address} if address else {})}
    if shard is not None:
        if out or as_json:
            raise click.UsageError("--out and --json are for the run that collects, without --shard")
        _tell_shard(shard, run_shard(experiment, shard, **where))
        return
    folder = out or default_folder(experiment)
    try:
        found = run(experiment, out=folder, **where)
    except UserError:
        if (folder / "results.json").is_file():
            click.echo(f"written to {folder}: results.json, which says why the run ended", err=True)
        raise
    tell_failures(found.failed, found.tracebacks)
    click.echo(f"written to {found.folder}: results.json, tables, samples.png", err=True)
    with later(found.broken):
        click.echo(found.record.to_json() if as_json else found.text(table_width()), nl=False)
    if found.broken:
        raise found.broken[0]
    if found.failed:
        sys.exit(EXIT_CELL_FAILED)


def _tell_shard(shard: tuple[int, int], cells: list[CellRecord]) -> None:
    """What became of a shard: its results are in the cache."""
    failed = {cell.id: cell.reason for cell in cells if cell.status == FAILED}
    tell_failures(failed, {})
    done = f"{len(cells) - len(failed)} of {len(cells)} cells are in the cache"
    click.echo(f"shard {shard[0]}/{shard[1]}: {done}; `ptqbench run` without --shard collects all", err=True)
    if failed:
        sys.exit(EXIT_CELL_FAILED)


def default_folder(experiment: Experiment) -> Path:
    """runs/<recipe>/<time>-<hash>."""
    return Path("runs") / experiment.name / f"{datetime.now():%Y%m%d-%H%M%S}-{experiment.digest[:8]}"
