"""Running a comparison from Python; `ptqbench run` is this and the printing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ptqbench.api.files import require_folder
from ptqbench.api.progress import Progress
from ptqbench.api.recipe import Overrides, Recipe, load_recipe
from ptqbench.api.record import keep_record
from ptqbench.api.result import Run, later
from ptqbench.api.settings import Chosen, executor_for, settings_for
from ptqbench.api.tracebacks import write_tracebacks
from ptqbench.boundary.build import build
from ptqbench.errors import UserError
from ptqbench.recipe.experiment import Experiment
from ptqbench.results.gallery import gallery
from ptqbench.results.record import CellRecord, RunRecord
from ptqbench.roles.executor import Report, Task
from ptqbench.running import run as running
from ptqbench.running.run import previews, run_experiment, tracebacks, unfinished
from ptqbench.running.tasks import Shard
from ptqbench.stage.arithmetic import arithmetic
from ptqbench.stage.context import Settings


def run(
    recipe: Recipe,
    *,
    profile: str = "",
    set: Overrides = (),
    only: Sequence[str] = (),
    out: str | Path | None = None,
    cache: str | Path | None = None,
    device: str = "auto",
    workers: int | None = 1,
    threads: int | None = None,
    progress: bool = False,
    executor: Chosen = "local",
) -> Run:
    """Compute a comparison, or read from the cache what is there of it.

    `out` is the folder that results are written to, as `ptqbench run` does; without it nothing is written but the cache (see
    `default_cache`). `device` is "cpu", "cuda" ..., or "auto"; `workers` are processes (None for one per core, 8 at most),
    whose number changes nothing but the time; a script that asks for several stands under `if __name__ == "__main__":`.
    `threads` are those of each process, 1 on a CPU, where numbers depend on it. `progress` is printed on stderr. `executor` is
    who does the work: "local", "ray", or a table such as {"use": "ray", "address": "auto"} (docs/cluster.md).

    A cell that fails is a row that says why (`Run.failed`). Raises `UserError` where no cell could go on; the record
    in `out` says so as well.
    """
    experiment = load_recipe(recipe, profile=profile, set=set, only=only)
    settings, chosen = settings_for(cache, device, workers, threads), executor_for(experiment, executor)
    folder = None if out is None else Path(out)
    if folder is not None:
        require_folder(folder, "--out")
    with arithmetic(settings.threads):
        words = invocation(experiment, device, threads)
        try:
            with _reports(progress, settings.workers) as (report, announce):
                record = run_experiment(experiment, settings, report, announce, chosen)
        except UserError as error:
            if folder is not None:
                _keep(unfinished(experiment, settings, error), words, folder)
            raise
        record.invocation = words
        result = Run(record, folder=folder, experiment=experiment, cache=settings.cache)
        if folder is not None:
            _write(result, folder, experiment, settings)
    return result


def run_shard(
    recipe: Recipe,
    shard: tuple[int, int],
    *,
    profile: str = "",
    set: Overrides = (),
    only: Sequence[str] = (),
    cache: str | Path | None = None,
    device: str = "auto",
    workers: int | None = 1,
    threads: int | None = None,
    progress: bool = False,
    executor: Chosen = "local",
) -> list[CellRecord]:
    """Compute the cells that fall to shard (i, n), from (0, n) to (n - 1, n), and leave them in the cache, where `run` finds
    them. Shards may run one after the other or beside each other, on any machines that see the cache; other parameters are
    those of `run`.
    """
    experiment = load_recipe(recipe, profile=profile, set=set, only=only)
    settings, chosen = settings_for(cache, device, workers, threads), executor_for(experiment, executor)
    with arithmetic(settings.threads), _reports(progress, settings.workers) as (report, announce):
        return running.run_shard(experiment, settings, Shard(*shard), report, announce, chosen)


def invocation(experiment: Experiment, device: str = "auto", threads: int | None = None) -> list[str]:
    """The words after `ptqbench run` that repeat a run; a recipe outside the working folder by its name, for records are
    published. None for a recipe that is no file."""
    if experiment.path is None:
        return []
    # Not where a link to a recipe leads: the files that it names lie beside the link.
    here, there = Path.cwd(), experiment.path.parent.resolve() / experiment.path.name
    words = [there.relative_to(here).as_posix() if there.is_relative_to(here) else there.name]
    words += ["--profile", experiment.profile] if experiment.profile else []
    words += [word for override in experiment.overrides for word in ("--set", override)]
    words += ["--device", device] if device != "auto" else []
    return words + (["--threads", str(threads)] if threads else [])


@contextlib.contextmanager
def _reports(shown: bool, workers: int) -> Iterator[tuple[Report, Callable[[list[Task]], None]]]:
    if not shown:
        yield (lambda *_: None), (lambda _: None)
        return
    with Progress(workers=workers) as progress:
        yield progress.report, progress.announce


def _keep(record: RunRecord, words: list[str], folder: Path) -> None:
    """The record alone, and what an earlier run left there is gone: it would pass for this one's."""
    record.invocation = words
    with contextlib.suppress(OSError):  # the error that ended the run is the one to tell
        keep_record(record, folder)


def _write(result: Run, folder: Path, experiment: Experiment, settings: Settings) -> None:
    """The record first, then what is made of it: a reporter that fails spoils its own table only, and is noted."""
    keep_record(result.record, folder)
    found = tracebacks(experiment, settings) if result.failed else {}
    result.tracebacks = write_tracebacks(folder, [cell.id for cell in result.record.cells], found)
    for bound in experiment.reporters:
        with later(result.broken):
            reporter = build(bound)
            (folder / f"table{reporter.suffix}").write_text(reporter.render(result.record), encoding="utf-8")
    if rows := previews(experiment, settings):
        gallery(rows).save(folder / "samples.png", optimize=True)
