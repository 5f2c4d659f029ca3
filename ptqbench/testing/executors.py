"""Executors: a few trivial tasks by two workers, one of whose processes ends; all must come back."""

from __future__ import annotations

import contextlib
import os
import tempfile
from contextlib import AbstractContextManager
from functools import partial

from ptqbench.errors import UserError
from ptqbench.plugin.component import NoOptions
from ptqbench.roles.executor import Crew, Executor, Task, Workers
from ptqbench.running.executor import execute
from ptqbench.testing.errands import prepare, result, work
from ptqbench.testing.trial import Trial


class _Opened(Executor):
    """An executor whose workers are there already."""

    def __init__(self, workers: Workers) -> None:
        super().__init__(NoOptions())
        self.workers = workers

    def open(self, crew: Crew) -> AbstractContextManager[Workers]:
        return contextlib.nullcontext(self.workers)


def executes(trial: Trial) -> None:
    """Every task is done, also when a process ends over one, and its result comes back as it was; an executor that says, when
    it is opened, that its package or cluster is not here is let be."""
    tasks = [Task("cell", i, label=f"task {i}") for i in range(4)]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        here = partial(work, folder, os.getpid())
        crew = Crew(partial(prepare, here), here, 2, 1, 0.0, False, folder, lambda *_: None)
        executor: Executor = trial.bound.create()
        try:
            workers = stack.enter_context(executor.open(crew))
        except UserError:
            return
        try:
            found = {task.label: given for task, given in execute(_Opened(workers), crew, tasks)}
        except Exception as error:
            remedy = (
                "a process that ends is an Ended with `lost`, after which wait() and submit() go on; tasks raise nothing here"
            )
            raise trial.fault(f"ended with {type(error).__name__}: {error}", remedy) from error
    if found != {task.label: result(task) for task in tasks}:
        raise trial.fault(f"gave {found}", "wait() returns an Ended with the result of each task that was submitted, unchanged")
