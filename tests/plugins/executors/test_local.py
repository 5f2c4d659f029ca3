"""Processes of this machine: one that the system ends costs its task a second try, alone, and at the second time its cell.

The numbers of a run that goes on after a kill are those of an undisturbed one: tests/running/test_disturbed.py.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import pytest

from ptqbench.plugin.component import NoOptions
from ptqbench.roles.executor import Crew, Task
from ptqbench.testing.errands import prepare
from ptqbench_executors import local


def work(folder: Path, task: Task, _: Callable[[str, float], None]) -> str:
    """Ends its process once, or whenever somebody tries. Processes import this module, and no torch for it."""
    marker = folder / task.label
    if task.label != "whole" and not (task.label == "once" and marker.exists()):
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return task.label


def test_a_process_that_is_killed_costs_a_second_try_and_then_its_cell(tmp_path: Path) -> None:
    from enginekit import experiment

    from ptqbench.running.executor import execute
    from ptqbench.running.run import _lost

    tasks = [Task("cell", i, label=label) for i, label in enumerate(("whole", "once", "always"))]
    here = partial(work, tmp_path)
    crew = Crew(partial(prepare, here), here, 2, 1, 0.0, False, str(tmp_path), lambda *_: None)
    found = {task.label: result for task, result in execute(local.Local(NoOptions()), crew, tasks)}
    always = found.pop("always")
    assert found == {"whole": "whole", "once": "once"}
    words = "was killed by SIGKILL, alone as well as beside others, while it worked on this cell"
    assert words in _lost(experiment().cells[-1], always).reason


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_processes_never_see_an_interrupt_from_their_first_instruction_on(method, monkeypatch) -> None:
    """None of the code that they run could see to it that early: it is in what they inherit."""
    monkeypatch.setattr(local, "_PROCESSES", multiprocessing.get_context(method))
    for server in (forkserver._forkserver, resource_tracker._resource_tracker):
        server._stop()  # as in a new process, where whoever starts the tracker unblocks interrupts
    monkeypatch.setattr(forkserver._forkserver, "_preload_modules", [])
    crew = Crew(prepare=None, here=None, workers=2, threads=1, memory_mib=0.0, accelerator=False, folder="", report=None)
    workers = local._Processes(crew)
    worker = workers._start()
    try:
        started = [worker.process.pid, forkserver._forkserver._forkserver_pid, resource_tracker._resource_tracker._pid]
        assert all(_interrupts_blocked_or_ignored(pid) for pid in started if pid is not None)
    finally:
        workers.kill()
        workers.close()
        forkserver._forkserver._stop()
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def _interrupts_blocked_or_ignored(pid: int) -> bool:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool((int(status["SigBlk"], 16) | int(status["SigIgn"], 16)) >> (signal.SIGINT - 1) & 1)


@dataclass
class Gone:
    """A process that has ended with this code."""

    exitcode: int

    def join(self) -> None:
        pass


@pytest.mark.parametrize("codes", [(-signal.SIGKILL, 1), (1, -signal.SIGKILL)])
def test_one_killed_among_several_deaths_clears_the_room_for_who_is_tried_alone(codes) -> None:
    crew = Crew(prepare=None, here=None, workers=3, threads=1, memory_mib=0.0, accelerator=False, folder="", report=None)
    workers = local._Processes(crew)
    idle, other = multiprocessing.Pipe()
    for i, code in enumerate(codes):
        ours, theirs = multiprocessing.Pipe()
        theirs.close()
        workers.workers.append(local._Worker(Gone(code), ours, Task("cell", i, 0, f"cell {i}")))
    workers.workers.append(local._Worker(Gone(0), idle))
    ended = workers.wait()
    assert sorted((end.task.index, end.crowded) for end in ended) == [(i, code < 0) for i, code in enumerate(codes)]
    assert workers.slots == 2
    started = []
    workers._start = lambda: started.append(local._Worker(Gone(0), other)) or started[-1]
    workers.submit(Task("cell", 2, 0, "alone"))
    # The one that had nothing to do has been ended, and a new one works alone.
    assert idle.closed
    assert [worker.task.label for worker in started] == ["alone"]
