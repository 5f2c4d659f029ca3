"""Running tasks: who gets which, what is tried again, what is told; an executor brings them to processes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ptqbench.errors import PluginError, UserError
from ptqbench.plugin.classes import check_classes
from ptqbench.plugin.manager import PluginManager
from ptqbench.recipe.load import load_experiment
from ptqbench.results.costs import FAILED
from ptqbench.roles.executor import Crew, Ended, Executor, Report, Task, Work, Workers
from ptqbench.running.agenda import Agenda
from ptqbench.running.tasks import perform
from ptqbench.stage.cache import content_key
from ptqbench.stage.context import RunContext, Settings
from ptqbench.stage.memory import free_memory_mib
from ptqbench.stage.stages import Tell

Perform = Callable[[RunContext, Task, Tell], dict[str, Any] | None]
"""Does a task; a function of a module (or a `functools.partial` of one), so that workers find it."""

TRIES = 3
"""Processes that may die over a task before it is given up."""


def default_workers(device: torch.device) -> int:
    """Processes for a device: one for an accelerator; on a CPU one per core, at most 8 (each holds a copy of the model)."""
    return 1 if device.type != "cpu" else max(1, min(8, _cores()))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads(device: torch.device, workers: int) -> int:
    """Threads per process. One on a CPU, whatever the number of workers: sums depend on how threads divide them."""
    return 1 if device.type == "cpu" else max(1, _cores() // workers)


def with_room(settings: Settings, memory_mib: float) -> int:
    """How many of the wanted processes memory has room for now, each needing so much; one at least."""
    free = free_memory_mib()
    return settings.workers if free is None or not memory_mib else max(1, min(settings.workers, int(free // memory_mib)))


def local() -> Executor:
    """Processes of this machine."""
    found: Executor = PluginManager(warn=lambda _: None).default("executor", "local").create()
    return found


def crew_of(
    ctx: RunContext, settings: Settings, report: Report, perform: Perform = perform, workers: int = 0, memory_mib: float = 0.0
) -> Crew:
    """What an executor needs to know of a run; at most `workers` processes, those of the settings if left out."""
    # Folders mean the same in every process, whatever it works in.
    settings = Settings(settings.cache.resolve(), settings.device, settings.workers, settings.threads)
    return Crew(
        prepare=partial(_prepare, ctx.experiment.raw, ctx.experiment.folder, settings, perform, _identity(ctx)),
        here=partial(perform, ctx),
        workers=workers or settings.workers,
        threads=settings.threads,
        memory_mib=memory_mib,
        accelerator=ctx.device.type != "cpu",
        folder=str(settings.cache),
        report=report,
    )


def execute(executor: Executor, crew: Crew, tasks: Sequence[Task]) -> Iterator[tuple[Task, Any]]:
    """Do all tasks; yields each with its result as they end, an `Ended` in place of one that no process survived.

    A process that dies of want of memory may have died of what others needed beside it: its task is tried again alone. Errors
    that a task raises are raised here, and end the others.
    """
    agenda, again, died = Agenda(tasks), list[Ended](), dict[str, int]()
    with executor.open(crew) as workers:
        working, alone = 0, False
        while agenda or again or working:
            if not alone:
                alone = not working and any(end.crowded for end in again)
                working += _submit_alone(workers, again) if alone else _fill(workers, agenda, again, working)
            for end in workers.wait():
                working, alone = working - 1, False
                if end.error is not None:
                    raise end.error
                died[end.task.name] = died.get(end.task.name, 0) + bool(end.lost)
                if end.lost and died[end.task.name] < (2 if end.crowded else TRIES):
                    again.append(end)
                    continue
                result = end if end.lost else end.result
                failed = bool(end.lost) or failed_or_done(end.result) == FAILED
                crew.report(end.task, FAILED if failed else "", 1.0)
                agenda.end(end.task, failed=failed)
                yield end.task, result


def _submit_alone(workers: Workers, again: list[Ended]) -> int:
    crowded = next(end for end in again if end.crowded)
    again.remove(crowded)
    workers.submit(crowded.task)
    return 1


def _fill(workers: Workers, agenda: Agenda, again: list[Ended], working: int) -> int:
    """Submit what there is room for; returns how much that was. What is to be tried alone waits until nothing else runs."""
    if any(end.crowded for end in again):
        return 0
    count = 0
    while working + count < workers.slots and (task := again.pop().task if again else agenda.take()) is not None:
        workers.submit(task)
        count += 1
    return count


def failed_or_done(result: Any) -> str:
    """The last report of a task, by what it gave: a cell's record, what failed before a cell, or nothing."""
    return FAILED if isinstance(result, Mapping) and FAILED in (result.get("status"), *result) else ""


def _identity(ctx: RunContext) -> tuple[str, str]:
    """What results depend on and each process finds for itself: the code of all components, and what computes."""
    return content_key([bound.key for bound in ctx.experiment.components()]), content_key(ctx.computing_key)


def _prepare(raw: Mapping[str, Any], folder: Path, settings: Settings, perform: Perform, first: tuple[str, str]) -> Work:
    """In a worker. Raises `UserError` where it is another than the `first` process: their results would stand in one table."""
    # The first process has warned of plugins that had to be left out.
    experiment = load_experiment(raw, folder=folder, manager=PluginManager(warn=lambda _: None))
    # Imported now, as their code is in the keys: what is edited while the run goes on has no part in it.
    check_classes(experiment.components())
    ctx = RunContext.of(experiment, settings)
    code, machine = _identity(ctx)
    if code != first[0]:
        raise PluginError(
            "a plugin has changed since the run began, or is another one where a worker runs",
            "give the same command again; what is finished is kept",
        )
    if machine != first[1]:
        raise UserError(
            f"a worker computes otherwise than the run's first process: {json.dumps(ctx.computing_key[1:])}",
            "ask for machines of one kind, with the same packages and environment (docs/cluster.md)",
        )
    return partial(perform, ctx)
