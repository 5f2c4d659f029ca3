"""Running tasks: in this process, or in a few worker processes with a fixed number of threads each."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any

import torch

from ptqbench.errors import UserError
from ptqbench.plugin.manager import PluginManager
from ptqbench.recipe.experiment import Experiment
from ptqbench.recipe.load import load_experiment
from ptqbench.results.costs import FAILED
from ptqbench.running.tasks import Task, perform
from ptqbench.stage.context import RunContext, Settings
from ptqbench.stage.stages import Tell

Report = Callable[[Task, str, float], None]
"""Progress of a task: what it does now, and how far it is in [0, 1]; at 1, "" says that it is done, `FAILED` that it failed."""

Perform = Callable[[RunContext, Task, Tell], dict[str, Any] | None]
"""Does a task; a function of a module (or a `functools.partial` of one), so that workers find it."""


def failed_or_done(result: dict[str, Any] | None) -> str:
    """The last report of a task, by what it gave: a cell's record, or nothing."""
    return FAILED if result is not None and result.get("status") == FAILED else ""


def default_workers(device: torch.device) -> int:
    """Processes for a device: one for an accelerator; on a CPU one per core, at most 8 (each holds a copy of the model)."""
    return 1 if device.type != "cpu" else max(1, min(8, _cores()))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads(device: torch.device, workers: int) -> int:
    """Threads per process. One on a CPU, whatever the number of workers: sums depend on how threads divide them."""
    return 1 if device.type == "cpu" else max(1, _cores() // workers)


class Local:
    """Runs waves of tasks; `run` yields (task, result) as tasks finish. Use as a context manager."""

    def __init__(
        self, experiment: Experiment, settings: Settings, ctx: RunContext, report: Report, perform: Perform = perform
    ) -> None:
        self.experiment, self.settings, self.ctx, self.report = experiment, settings, ctx, report
        self.perform = perform
        self.pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Local:
        if self.settings.workers > 1:
            spawn = multiprocessing.get_context("spawn")
            self.messages = spawn.Queue()
            self.done = threading.Event()
            self.listener = threading.Thread(target=self._listen, daemon=True)
            self.listener.start()
            self.pool = ProcessPoolExecutor(
                self.settings.workers,
                mp_context=spawn,
                initializer=_start_worker,
                initargs=(_portable(self.experiment), self.settings, self.messages, self.perform),
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.pool is None:
            return
        if kind is not None:
            # Stages are atomic: a worker may be ended at any point, and what it had finished is in the cache.
            for process in list((self.pool._processes or {}).values()):
                process.kill()
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.done.set()
        self.listener.join()

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, dict[str, Any] | None]]:
        """Finish all tasks, in any order."""
        if self.pool is None:
            for task in tasks:
                yield task, self.perform(self.ctx, task, partial(self.report, task))
            return
        with _interrupts_blocked():
            waiting: dict[Future[dict[str, Any] | None], Task] = {self.pool.submit(_work, task): task for task in tasks}
        while waiting:
            finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                task = waiting.pop(future)
                try:
                    yield task, future.result()
                except BrokenProcessPool as error:
                    raise UserError(
                        f"a worker process died while it worked on {task.label}",
                        "out of memory is the usual cause: use --workers 1; the same command continues where it stopped",
                    ) from error

    def _listen(self) -> None:
        while not self.done.is_set():
            with contextlib.suppress(queue.Empty):
                self.report(*self.messages.get(timeout=0.2))


_worker: dict[str, Any] = {}
"""This worker process's context, message queue, and the function that does its tasks."""


def _portable(experiment: Experiment) -> dict[str, Any]:
    """The recipe as plain data that means the same in another process: files that it names by absolute path."""
    files = [str(path.resolve()) for path in experiment.plugin_files]
    raw = {**experiment.raw, "recipe": {**experiment.raw["recipe"], "plugins": files}}
    given = raw["model"] if isinstance(raw["model"], dict) else {"use": raw["model"]}
    chosen = experiment.model.options.model_dump(mode="json", exclude_unset=True)
    raw["model"] = {**given, **chosen}
    reference = experiment.evaluation.reference
    if reference is not None:
        raw["evaluation"] = {**experiment.raw["evaluation"], "reference": str(reference.resolve())}
    return raw


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes started meanwhile never see Ctrl-C, also while they import; this one gets it at the end of the block."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """A worker whose parent was killed would finish its task and then wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _start_worker(raw: dict[str, Any], settings: Settings, messages: Any, perform: Perform) -> None:
    # The parent decides what an interrupt means; workers are ended by it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # The parent has warned of plugins that had to be left out.
    experiment = load_experiment(raw, manager=PluginManager(warn=lambda _: None))
    _worker["context"] = RunContext.of(experiment, settings)
    _worker["messages"] = messages
    _worker["perform"] = perform


def _work(task: Task) -> dict[str, Any] | None:
    messages = _worker["messages"]
    return _worker["perform"](_worker["context"], task, lambda what, part: messages.put((task, what, part)))
