"""Which task comes next: what all before it is done of, longest way to the end first, and what is sure to fail before all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from ptqbench.roles.executor import Task


class Agenda:
    """Tasks in the order of their dependencies. A task that failed does not hold up those after it: each finds out what that
    means for itself, and at once."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = {task.name: task for task in tasks}
        # What is not to be done here has been done, or is somebody else's.
        self._waits = {task.name: set(task.after & self._tasks.keys()) for task in tasks}
        self._next: dict[str, list[str]] = {task.name: [] for task in tasks}
        for name, before in self._waits.items():
            for other in before:
                self._next[other].append(name)
        order = {name: i for i, name in enumerate(self._tasks)}

        @cache
        def left(name: str) -> float:
            return self._tasks[name].seconds + max(map(left, self._next[name]), default=0.0)

        self._rank = {name: (not self._tasks[name].first, -left(name), order[name]) for name in self._tasks}

    def __len__(self) -> int:
        """Tasks that have not been taken."""
        return len(self._waits)

    def take(self) -> Task | None:
        """The next task that nothing holds up, or None while there is none."""
        ready = [name for name, before in self._waits.items() if not before]
        if not ready:
            return None
        name = min(ready, key=self._rank.__getitem__)
        del self._waits[name]
        return self._tasks[name]

    def end(self, task: Task, *, failed: bool = False) -> None:
        """A task has ended; those that only waited for it may be taken, at once if it failed."""
        for name in self._next[task.name]:
            self._waits[name].discard(task.name)
            if failed:
                self._rank[name] = (False, *self._rank[name][1:])
