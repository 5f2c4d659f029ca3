"""Progress of a run on stderr: bars on a terminal, a line per finished task elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from ptqbench.results.costs import FAILED

if TYPE_CHECKING:
    from ptqbench.running.tasks import Task


class Progress:
    """`announce` the tasks once, then `report` each as it goes; part 1.0 without a text means done, with `FAILED` failed."""

    def __init__(self) -> None:
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

    def report(self, task: Task, what: str, part: float) -> None:
        """Show what a task does now."""
        if task in self.finished:
            return  # a worker's message that was overtaken by its result
        finished = part >= 1.0 and what in ("", FAILED)
        if task not in self.started:
            self.started[task] = time.monotonic()
        if task.kind == "cell" and task not in self.running and not finished:
            self.running[task] = self.bars.add_task(f"  {task.label}", total=100, what=what)
        if finished:
            self._finish(task, what or "done")
        elif task in self.running:
            self.bars.update(self.running[task], completed=round(100 * part), what=what)

    def _finish(self, task: Task, how: str) -> None:
        self.finished.add(task)
        if task in self.running:
            self.bars.remove_task(self.running.pop(task))
        if self.total is not None:
            self.bars.advance(self.total)
        if not self.console.is_terminal and task.kind == "cell":
            self.console.print(f"{task.label}: {how} in {time.monotonic() - self.started[task]:.1f} s", highlight=False)
