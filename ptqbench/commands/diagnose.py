"""`ptqbench diagnose RECIPE`: look into the fits of a recipe's cells; write data, pictures and a page."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ptqbench.api.files import require_folder
from ptqbench.api.recipe import load_recipe
from ptqbench.api.settings import settings_for
from ptqbench.api.tracebacks import write_tracebacks
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
from ptqbench.commands.output import print_tables, tell_failures
from ptqbench.errors import EXIT_CELL_FAILED, EXIT_OK, UserError
from ptqbench.recipe.experiment import Experiment

if TYPE_CHECKING:
    from ptqbench.diagnostics.observer import GradientObserver
    from ptqbench.diagnostics.summary import Summary
    from ptqbench.stage.context import Settings


@click.command("diagnose", short_help="Look into the fits of a recipe's cells.")
@experiment_argument
@profile_option
@override_option
@only_option
@click.option(
    "--out", type=click.Path(path_type=Path), help="Where files go.  [default: runs/<recipe>/diagnosis-<time>-<hash>]"
)
@click.option("--groups", type=click.IntRange(2), default=5, show_default=True, help="Groups of sampling steps.")
@cache_option
@device_option
@workers_option
@threads_option
def command(
    recipe: Path,
    profile: str,
    overrides: tuple[str, ...],
    only: tuple[str, ...],
    out: Path | None,
    groups: int,
    cache: Path,
    device: str,
    workers: int | None,
    threads: int | None,
) -> int:
    """Do gradients of different timesteps conflict in RECIPE's cells, and what do learned weights make of it?

    Every cell is fitted once more under observation, which changes no number of the fit; images are not generated. The
    error of the noise prediction is taken from finished runs in the cache. A cell that fails leaves its traceback in the
    folder errors/ beside the page.
    """
    experiment = load_recipe(recipe, profile=profile, set=overrides, only=only)
    steps = experiment.sampling.steps
    if groups > steps:
        raise UserError(f"{groups} groups of {steps} sampling steps cannot be", f"give --groups {steps} or fewer")
    folder = out or Path("runs") / experiment.name / f"diagnosis-{datetime.now():%Y%m%d-%H%M%S}-{experiment.digest[:8]}"
    require_folder(folder, "--out")
    settings = settings_for(cache, device, workers, threads)
    from ptqbench.diagnostics.observer import GradientObserver
    from ptqbench.diagnostics.report import write
    from ptqbench.diagnostics.tables import tables

    observer = GradientObserver(groups=groups)
    found, tracebacks = _observe(experiment, settings, observer)
    write(found, observer, folder)
    click.echo(f"written to {folder}: diagnostics.md, diagnostics.json, units.json, pictures", err=True)
    print_tables(tables(found))
    tell_failures(found.failed, write_tracebacks(folder, [cell.id for cell in experiment.cells], tracebacks))
    return EXIT_CELL_FAILED if found.failed else EXIT_OK


def _observe(experiment: Experiment, settings: Settings, observer: GradientObserver) -> tuple[Summary, dict[str, str]]:
    """Fit under observation with progress on stderr: what was found, and the tracebacks of cells that failed.

    Raises `UserError` if no cell fits anything.
    """
    from ptqbench.api.progress import Progress
    from ptqbench.diagnostics.collect import collect
    from ptqbench.diagnostics.summary import summarize

    with Progress() as progress:
        collected = collect(experiment, settings, observer, progress.report, progress.announce)
    if not collected.observations and not collected.failed:
        raise UserError("no cell of this recipe fits anything", "choose cells whose reconstruction learns something")
    return summarize(experiment, settings, collected, observer.groups), collected.tracebacks
