"""What executors are tried on: tasks of a moment, in processes that need not import torch for them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ptqbench.roles.executor import Task, Work

FRAGILE = 1
"""The task over which a process ends, once."""


def result(task: Task) -> dict[str, Any]:
    """What a task comes to."""
    return {"index": task.index, "third": task.index / 3, "label": task.label, "more": [{"none": None, "inf": float("inf")}]}


def work(folder: str, caller: int, task: Task, tell: Callable[[str, float], None]) -> dict[str, Any]:
    """Does a task; over a certain one a process other than the caller's ends, once."""
    tell("working", 0.5)
    if task.index == FRAGILE and os.getpid() != caller:
        with contextlib.suppress(FileExistsError):
            (Path(folder) / "ended").touch(exist_ok=False)
            os._exit(3)
    return result(task)


def prepare(work: Work) -> Work:
    """What `Crew.prepare` gives in another process."""
    return work
