"""Processes of this machine: one that the system ends costs its task a second try, alone, and at the second time its cell."""

from __future__ import annotations

import multiprocessing
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from enginekit import TOY, experiment, recipe, values

from ptqbench.results.record import RunRecord
from ptqbench.roles.executor import Crew, Task
from ptqbench.running.run import run_experiment
from ptqbench.stage.context import Settings
from ptqbench_executors import local

DYING = """
import os
import signal
from pathlib import Path

import torch
from pydantic import Field

from ptqbench import Component, Options, hookimpl
from ptqbench.roles.weighter import SampleWeighter


class DyingOptions(Options):
    marker: str = Field("", description="a file: where it is there, nobody dies any more")


class Dying(SampleWeighter):
    def weights(self, batch, problem):
        marker = Path(self.options.marker or os.devnull)
        if not marker.is_file():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.ones(len(batch))


@hookimpl
def ptqbench_components():
    return [Component("weighter", "dying", "ends its process", Dying, DyingOptions)]
"""


def run(folder: Path, workers: int) -> RunRecord:
    """Two methods that kill the process that fits them: once, and whenever somebody tries."""
    (folder / "dying.py").write_text(DYING)
    raw = recipe()
    raw["recipe"]["plugins"] = [str(TOY), str(folder / "dying.py")]
    base = raw["methods"]["qdiffusion"]
    raw["methods"] = {"once": {**base, "weighter": {"use": "dying", "marker": str(folder / "marker")}}}
    raw["methods"] |= {"always": {**base, "weighter": "dying"}}
    made = experiment("model.network=plain", methods=("once", "always") if workers > 1 else ("once",), raw=raw)
    told: list[str] = []
    settings = Settings(folder / f"cache{workers}", "cpu", workers, 1)
    return run_experiment(made, settings, lambda task, what, _: told.append(what), lambda _: None)


def test_a_process_that_is_killed_costs_a_second_try_and_then_its_cell(tmp_path: Path) -> None:
    full, once, always = run(tmp_path, 2).cells
    assert (full.status, once.status, always.status) == ("ok", "ok", "failed")
    assert "was killed by SIGKILL, alone as well as beside others, while it worked on this cell" in always.reason
    undisturbed = run(tmp_path, 1).cells
    assert [values(cell) for cell in undisturbed] == [values(full), values(once)]


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
