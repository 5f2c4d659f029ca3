"""Executors: a few trivial tasks, all of which must come back."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

from ptqbench.errors import UserError
from ptqbench.roles.executor import Crew, Executor, Task, Work
from ptqbench.running.executor import execute
from ptqbench.testing.trial import Trial


def executes(trial: Trial) -> None:
    """Every task is done, and its result comes back; an executor whose package or cluster is not here is let be."""
    tasks = [Task("cell", i, label=f"task {i}") for i in range(3)]
    with tempfile.TemporaryDirectory() as folder:
        crew = Crew(_prepare, _work, 1, 1, 0.0, False, folder, lambda *_: None)
        executor: Executor = trial.bound.create()
        try:
            found = {task.label: result for task, result in execute(executor, crew, tasks)}
        except UserError:
            return
    if found != {task.label: {"index": task.index} for task in tasks}:
        raise trial.fault(f"gave {found}", "wait() returns an Ended with the result of each task that was submitted")


def _work(task: Task, tell: Callable[[str, float], None]) -> dict[str, Any]:
    tell("working", 0.5)
    return {"index": task.index}


def _prepare() -> Work:
    return _work
