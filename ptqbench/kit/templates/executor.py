"""Tasks one after the other in this process, with a note in a file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from ptqbench import Component, Options, hookimpl
from ptqbench.roles.executor import Crew, Ended, Executor, Task, Workers


class ExampleOptions(Options):
    """What a user may set."""

    log: str = Field("", description="file that gets a line for each run; none if empty")


class OneByOne(Workers):
    """`submit` notes a task, `wait` does it. `crew.prepare()` makes the same function in another process."""

    slots = 1

    def __init__(self, crew: Crew) -> None:
        self.crew, self.tasks = crew, list[Task]()

    def submit(self, task: Task) -> None:
        self.tasks.append(task)

    def wait(self) -> list[Ended]:
        task = self.tasks.pop()
        return [Ended(task, self.crew.here(task, lambda what, part: self.crew.report(task, what, part)))]


class Example(Executor):
    """Has nothing to end: other executors stop what still runs when the block is left with an error."""

    options: ExampleOptions

    @contextlib.contextmanager
    def open(self, crew: Crew) -> Iterator[Workers]:
        if self.options.log:
            with Path(self.options.log).open("a", encoding="utf-8") as log:
                log.write(f"begun with the cache {crew.folder}\n")
        yield OneByOne(crew)


@hookimpl
def ptqbench_components() -> list[Component]:
    return [Component("executor", "example", "tasks one after the other", Example, ExampleOptions)]
