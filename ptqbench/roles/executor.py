"""Executors: where the tasks of a run are done, in processes of one machine or of many."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from ptqbench.roles.base import WithOptions


@dataclass(frozen=True)
class Task:
    """Something that a process can do with nothing but the experiment and the cache.

    `kind`, `index`, `seed`, `part` and `count` say what; `ptqbench.running.tasks` knows the kinds. `seconds` are those that one
    process is forecast to take, 0 where that is not known. `after` names the tasks that come before it; `first` puts it before
    all others.
    """

    kind: str
    index: int = 0
    seed: int = 0
    label: str = ""
    seconds: float = field(default=0.0, compare=False)
    part: int = 0
    after: frozenset[str] = field(default=frozenset(), compare=False)
    first: bool = field(default=False, compare=False)
    count: int = 1

    @property
    def name(self) -> str:
        """What `after` calls it."""
        return f"{self.kind}/{self.index}/{self.seed}/{self.part}"


Report = Callable[[Task, str, float], None]
"""Progress of a task: what it does now, and how far it is in [0, 1]."""

Work = Callable[[Task, Callable[[str, float], None]], Any]
"""Does a task, tells its progress, and returns plain data."""


@dataclass(frozen=True)
class Crew:
    """What an executor puts its workers up with.

    `prepare` can be pickled; called once in a process, it loads the experiment, sets the number of `threads`, and returns the
    function that does tasks there. `here` is that function for this process. At most `workers` processes are wanted on this
    machine; each has `threads` threads, needs about `memory_mib` of the host's memory and, where `accelerator` is true, a
    device or a share of one. `folder` is the cache, which all processes must see. `report` takes progress.
    """

    prepare: Callable[[], Work]
    here: Work
    workers: int
    threads: int
    memory_mib: float
    accelerator: bool
    folder: str
    report: Report


@dataclass(frozen=True)
class Ended:
    """The end of a task: its `result`, or the `error` that it raised, or, where its process died, `lost` says how.

    `crowded` says that it may have died of what others needed beside it, and should be tried again alone.
    """

    task: Task
    result: Any = None
    error: BaseException | None = None
    lost: str = ""
    crowded: bool = False


class Workers(ABC):
    """Workers of one run. Leaving the block ends them; with an error, at once: what they had finished is in the cache."""

    @property
    @abstractmethod
    def slots(self) -> int:
        """How many tasks may be in work at a time."""

    @abstractmethod
    def submit(self, task: Task) -> None:
        """Have a task done. Called only while fewer than `slots` are in work."""

    @abstractmethod
    def wait(self) -> list[Ended]:
        """Wait for the end of some tasks, or a moment; progress is reported meanwhile."""


class Executor(WithOptions, ABC):
    """Built as `Class(options)`. It brings tasks to processes and what becomes of them back; which task comes when is the run's
    business, and so is what is tried again."""

    @abstractmethod
    def open(self, crew: Crew) -> AbstractContextManager[Workers]:
        """Workers for a run.

        Raises `UserError` where there can be none: a package that is not installed, a cluster that cannot be reached.
        """
