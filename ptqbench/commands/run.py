"""`ptqbench run RECIPE`: compute a comparison, print its table, write results.json, the tables and the picture."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ptqbench.boundary.build import build
from ptqbench.commands.files import require_folder
from ptqbench.commands.options import (
    cache_option,
    device_option,
    experiment_argument,
    only_option,
    only_override,
    override_option,
    settings_for,
    threads_option,
    workers_option,
)
from ptqbench.commands.output import table_width
from ptqbench.commands.tracebacks import tell_failures
from ptqbench.errors import EXIT_CELL_FAILED
from ptqbench.failures import PLUGIN_ERRORS, blamed
from ptqbench.plugin.manager import PluginManager
from ptqbench.recipe.experiment import Experiment
from ptqbench.recipe.load import load_experiment
from ptqbench.results.record import RunRecord

if TYPE_CHECKING:
    from torch import Tensor

    from ptqbench.stage.context import Settings


@click.command("run", short_help="Run a comparison.")
@experiment_argument
@override_option
@only_option
@click.option("--out", type=click.Path(path_type=Path), help="Where results go.  [default: runs/<recipe>/<time>-<hash>]")
@cache_option
@device_option
@workers_option
@threads_option
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON instead of tables.")
def command(
    recipe: Path,
    overrides: tuple[str, ...],
    only: tuple[str, ...],
    out: Path | None,
    cache: Path,
    device: str,
    workers: int | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Run the comparison that RECIPE describes.

    Finished stages are kept in the cache: after an interruption the same command continues where it stopped. A cell that
    fails leaves its traceback in the folder errors/ beside the results.
    """
    manager = PluginManager()
    experiment = load_experiment(recipe, overrides=(*overrides, *only_override(only)), manager=manager)
    settings = settings_for(cache, device, workers, threads)
    folder = out or default_folder(experiment)
    require_folder(folder, "--out")
    from ptqbench.running.run import previews, tracebacks

    record = execute(experiment, settings)
    record.invocation = invocation(recipe, overrides, device, threads)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(record.to_json(), encoding="utf-8")
    failed = {cell.id: cell.reason for cell in record.cells if cell.status != "ok"}
    tell_failures(folder, [cell.id for cell in record.cells], failed, tracebacks(experiment, settings) if failed else {})
    broken = write(folder, record, experiment, previews(experiment, settings))
    click.echo(f"written to {folder}: results.json, tables, samples.png", err=True)
    with _later(broken):
        click.echo(record.to_json() if as_json else _terminal(manager, record), nl=False)
    if broken:
        raise broken[0]
    if failed:
        sys.exit(EXIT_CELL_FAILED)


def execute(experiment: Experiment, settings: Settings) -> RunRecord:
    """Run with progress on stderr."""
    from ptqbench.commands.progress import Progress
    from ptqbench.running.run import run_experiment

    with Progress() as progress:
        return run_experiment(experiment, settings, progress.report, progress.announce)


def invocation(recipe: Path, overrides: Sequence[str], device: str, threads: int | None) -> list[str]:
    """The words that repeat a run; a recipe outside the working folder by its name, for records are published."""
    here, there = Path.cwd(), recipe.resolve()
    words = [there.relative_to(here).as_posix() if there.is_relative_to(here) else recipe.name]
    words += [word for override in overrides for word in ("--set", override)]
    words += ["--device", device] if device != "auto" else []
    return words + (["--threads", str(threads)] if threads else [])


def default_folder(experiment: Experiment) -> Path:
    """runs/<recipe>/<time>-<hash>."""
    return Path("runs") / experiment.name / f"{datetime.now():%Y%m%d-%H%M%S}-{experiment.digest[:8]}"


def write(folder: Path, record: RunRecord, experiment: Experiment, rows: list[tuple[str, Tensor]]) -> list[BaseException]:
    """Tables and the picture of samples; the errors of reporters that failed come back."""
    from ptqbench.results.gallery import save_gallery

    broken: list[BaseException] = []
    for bound in experiment.reporters:
        with _later(broken):
            reporter = build(bound)
            (folder / f"table{reporter.suffix}").write_text(reporter.render(record), encoding="utf-8")
    if rows:
        save_gallery(folder / "samples.png", rows)
    return broken


@contextlib.contextmanager
def _later(broken: list[BaseException]) -> Iterator[None]:
    """Adds what goes wrong in the block to the list: a reporter that fails spoils its own table, and nothing that follows."""
    try:
        with blamed("the report"):
            yield
    except PLUGIN_ERRORS as error:
        broken.append(error)


def _terminal(manager: PluginManager, record: RunRecord) -> str:
    reporter = build(manager.default("reporter", "terminal"))
    return reporter.render(record, width=table_width())
