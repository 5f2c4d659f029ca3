"""Tasks in this process, or in a few worker processes with a pipe to each."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from ptqbench.roles.executor import Crew, Ended, Executor, Task, Work, Workers

# Workers are forks of one process that has imported what each needs (torch above all) and done nothing with it: no threads, no
# device. Elsewhere they import for themselves, since system libraries of other platforms do not outlive a fork.
_PROCESSES = multiprocessing.get_context("forkserver") if sys.platform == "linux" else multiprocessing.get_context("spawn")
_KILLED = -getattr(signal, "SIGKILL", 9)
_TOLD, _DONE, _RAISED = "told", "done", "raised"


class Local(Executor):
    """One task at a time in this process where one worker is wanted, else processes that are started when tasks need them."""

    @contextlib.contextmanager
    def open(self, crew: Crew) -> Iterator[Workers]:
        if crew.workers == 1:
            yield _Here(crew)
            return
        _PROCESSES.set_forkserver_preload(["ptqbench.running.executor"])
        workers = _Processes(crew)
        try:
            yield workers
        except BaseException:
            # Stages are atomic: a worker may be ended at any point, and what it had finished is in the cache.
            workers.kill()
            raise
        finally:
            workers.close()


class _Here(Workers):
    """This process. Errors and interrupts go their usual way."""

    slots = 1

    def __init__(self, crew: Crew) -> None:
        self.crew, self.tasks = crew, list[Task]()

    def submit(self, task: Task) -> None:
        self.tasks.append(task)

    def wait(self) -> list[Ended]:
        task = self.tasks.pop()
        return [Ended(task, self.crew.here(task, lambda what, part: self.crew.report(task, what, part)))]


@dataclass
class _Worker:
    """A process, this end of its pipe, and what it works on."""

    process: BaseProcess
    pipe: Connection
    task: Task | None = None


class _Processes(Workers):
    """Processes, each of which prepares once and then takes one task after the other."""

    def __init__(self, crew: Crew) -> None:
        self.crew, self.workers = crew, list[_Worker]()
        self.room, self.crowded = crew.workers, False

    @property
    def slots(self) -> int:
        return self.room

    def submit(self, task: Task) -> None:
        if self.crowded and not any(worker.task for worker in self.workers):
            # What is tried alone has no others beside it that hold memory for nothing.
            self.close()
            self.workers, self.crowded = [], False
        worker = next((worker for worker in self.workers if worker.task is None), None) or self._start()
        worker.task = task
        with contextlib.suppress(BrokenPipeError):  # it died while it had nothing to do: `wait` finds it
            worker.pipe.send(task)

    def _start(self) -> _Worker:
        ours, theirs = _PROCESSES.Pipe()
        process = _PROCESSES.Process(target=_serve, args=(theirs, self.crew.prepare), daemon=True)
        with _interrupts_blocked():
            process.start()
        theirs.close()  # so that the pipe ends with the process
        self.workers.append(_Worker(process, ours))
        return self.workers[-1]

    def wait(self) -> list[Ended]:
        busy = {worker.pipe: worker for worker in self.workers if worker.task is not None}
        return [end for pipe in wait(list(busy)) if (end := self._read(busy[pipe])) is not None]  # type: ignore[index]

    def _read(self, worker: _Worker) -> Ended | None:
        task = worker.task
        if task is None:
            raise ValueError("nothing is asked of a worker without a task")
        try:
            kind, found = worker.pipe.recv()
        except (EOFError, OSError):  # also in the middle of a message
            worker.process.join()
            self.workers.remove(worker)
            # The usual cause is the system, which ends what takes too much memory: from now on there are fewer at a time.
            killed = worker.process.exitcode == _KILLED
            self.crowded |= killed
            self.room = max(1, self.room - killed)
            return Ended(task, lost=_death(worker.process.exitcode), crowded=killed)
        if kind == _TOLD:
            self.crew.report(task, *found)
            return None
        worker.task = None
        return Ended(task, result=found) if kind == _DONE else Ended(task, error=_with_traceback(*found))

    def kill(self) -> None:
        for worker in self.workers:
            worker.process.kill()

    def close(self) -> None:
        for worker in self.workers:
            worker.pipe.close()  # a worker without a task ends by that
        for worker in self.workers:
            worker.process.join()


def _death(code: int | None) -> str:
    """How a process ended, in words."""
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _with_traceback(error: BaseException, text: str) -> BaseException:
    """An error of another process, with its traceback there as its cause."""
    error.__cause__ = RuntimeError(f"\n{text}")
    return error


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes started meanwhile never see Ctrl-C, also while they import; this one gets it at the end of the block."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # It would be started with the first process, and unblocks interrupts when it has been.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """A worker whose parent was killed would finish its task first."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _serve(pipe: Connection, prepare: Callable[[], Work]) -> None:
    """A worker's life."""
    # The parent decides what an interrupt means; workers are ended by it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    work: Work | None = None
    with contextlib.suppress(EOFError):
        while True:
            task: Task = pipe.recv()
            try:
                work = work or prepare()
                answer: tuple[str, Any] = (_DONE, work(task, lambda what, part: pipe.send((_TOLD, (what, part)))))
            except BaseException as error:
                answer = (_RAISED, (error, traceback.format_exc()))
            pipe.send(answer)
