"""Progress of a run on stderr: bars on a terminal, a line per finished task elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from ptqbench.results.costs import FAILED

if TYPE_CHECKING:
    from ptqbench.roles.executor import Task

EVERY = 60.0
"""Seconds after which a log without a terminal gets a line, also where nothing has finished."""

TRUST = 0.05
"""The share of the forecast that it takes to be corrected by half."""


class Progress:
    """`announce` the tasks once, then `report` each as it goes; part 1.0 without a text means done, with `FAILED` failed.

    `workers` processes share the tasks.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, workers: int = 1) -> None:
        self.clock, self.workers = clock, workers
        self.parts: dict[Task, float] = {}
        self.cells, self.done = 0, 0
        self.begun: float | None = None
        self.spoken = clock()
        self.console = Console(stderr=True)
        self.bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[what]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.running: dict[Task, TaskID] = {}
        self.started: dict[Task, float] = {}
        self.finished: set[Task] = set()
        self.total: TaskID | None = None

    def __enter__(self) -> Progress:
        self.bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.bars.stop()

    def announce(self, tasks: list[Task]) -> None:
        """Show how much there is to do."""
        self.total = self.bars.add_task("all stages", total=len(tasks), what="")
        self.cells = sum(task.kind == "cell" for task in tasks)
        self.parts = dict.fromkeys(tasks, 0.0)
        self.begun = self.clock()

    def report(self, task: Task, what: str, part: float) -> None:
        """Show what a task does now."""
        if task in self.finished:
            return  # a worker's message that was overtaken by its result
        finished = part >= 1.0 and what in ("", FAILED)
        if task not in self.started:
            self.started[task] = self.clock()
        if task in self.parts:
            self.parts[task] = max(part, self.parts[task])
        if task.kind == "cell" and task not in self.running and not finished:
            self.running[task] = self.bars.add_task(f"  {task.label}", total=100, what=what)
        if finished:
            self._finish(task, what or "done")
        elif task in self.running:
            self.bars.update(self.running[task], completed=round(100 * part), what=what)
        if not finished and not self.console.is_terminal and self.clock() - self.spoken >= EVERY:
            self._say(f"{self._counted()}: now {task.label}{f', {what}' if what else ''}")

    def _finish(self, task: Task, how: str) -> None:
        self.finished.add(task)
        if task in self.running:
            self.bars.remove_task(self.running.pop(task))
        self.done += task.kind == "cell"
        if self.total is not None:
            self.bars.update(self.total, advance=1, what=self._counted())
        if not self.console.is_terminal and task.kind == "cell":
            self._say(f"{task.label}: {how} in {self.clock() - self.started[task]:.1f} s ({self._counted()})")

    def _say(self, text: str) -> None:
        self.spoken = self.clock()
        self.console.print(text, highlight=False, soft_wrap=True)

    def _counted(self) -> str:
        """ "3 of 16 cells, about 12 min left"."""
        counted, left = f"{self.done} of {self.cells} cells", self.left()
        if left is None or self.done == self.cells:
            return counted
        return f"{counted}, about {left:.0f} s left" if left < 90 else f"{counted}, about {left / 60:.0f} min left"

    def left(self) -> float | None:
        """Seconds that are left: the forecast of what is to be done, times how long things took of what was forecast for them.

        The first `TRUST` of the forecast count as done in its own time, so that one short task says little. None where nothing
        was forecast.
        """
        total = sum(task.seconds for task in self.parts)
        if not total or self.begun is None:
            return None
        done = sum(task.seconds * part for task, part in self.parts.items())
        trusted = TRUST * total
        pace = (self.clock() - self.begun + trusted / self.workers) / (done + trusted)
        return pace * (total - done)
