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
    from ptqbench.running.tasks import Task

EVERY = 60.0
"""Seconds after which a log without a terminal gets a line, also where nothing has finished."""


class Progress:
    """`announce` the tasks once, then `report` each as it goes; part 1.0 without a text means done, with `FAILED` failed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
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

    def report(self, task: Task, what: str, part: float) -> None:
        """Show what a task does now."""
        if task in self.finished:
            return  # a worker's message that was overtaken by its result
        finished = part >= 1.0 and what in ("", FAILED)
        if task not in self.started:
            self.started[task] = self.clock()
        if task.kind == "cell" and self.begun is None and not finished:
            self.begun = self.clock()
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
        """ "3 of 16 cells, about 12 min left", from what the cells took so far."""
        counted = f"{self.done} of {self.cells} cells"
        if self.begun is None or not 0 < self.done < self.cells:
            return counted
        left = (self.clock() - self.begun) / self.done * (self.cells - self.done)
        return f"{counted}, about {left:.0f} s left" if left < 90 else f"{counted}, about {left / 60:.0f} min left"
