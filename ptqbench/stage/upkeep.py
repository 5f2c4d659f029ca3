"""Who uses which cached results, what they take, and making room without taking anything from a process that computes."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ptqbench.errors import UserError

LOCK = ".lock"
"""In a result's folder: whoever computes or reads it holds this lock."""

_USED = ".used-"
"""In a result's folder, an empty file for each recipe that used it; its time is that of the last use."""

_USERS = ".users"
"""In the cache's folder: a locked file for each process that uses the cache, named by when it started."""

_numbers = itertools.count()


@dataclass(frozen=True)
class Kept:
    """A result in the cache: `used` is when it was used last (seconds since the epoch), `recipes` those that did."""

    folder: Path
    size: int
    used: float
    recipes: frozenset[str]

    @property
    def stage(self) -> str:
        return self.folder.parent.name


def mark_used(folder: Path, recipe: str) -> None:
    """Note that a recipe uses this result now. A cache that nothing can be written to any more stays readable."""
    with contextlib.suppress(OSError):
        (folder / f"{_USED}{re.sub(r'[^A-Za-z0-9_.-]', '-', recipe)}").touch()


def enter(root: Path) -> FileLock | None:
    """Mark this process as a user of the cache for as long as the lock is held; None where nothing can be written."""
    lock = FileLock(root / _USERS / f"{time.time():.6f}-{os.getpid()}-{next(_numbers)}")
    try:
        (root / _USERS).mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except OSError:
        return None
    return lock


def kept(root: Path) -> list[Kept]:
    """All results, the longest unused first. Raises `UserError` if there is no such folder."""
    if not root.is_dir():
        raise UserError(f"there is no cache at {root}", "name its folder with --cache")
    folders = (entry for stage in root.iterdir() if stage.is_dir() and not _hidden(stage) for entry in stage.iterdir())
    return sorted(
        (_look(folder) for folder in folders if folder.is_dir() and not _hidden(folder)), key=lambda found: found.used
    )


def prune(root: Path, chosen: Iterable[Kept]) -> list[Kept]:
    """Delete results, and return those that were: not what anybody is computing, nor what a process that still runs may have
    used since it started."""
    since = _oldest_user(root)
    return [found for found in chosen if found.used < since and _delete(found.folder)]


def chosen(
    results: Iterable[Kept], *, recipe: str | None = None, days: float | None = None, room: int | None = None
) -> list[Kept]:
    """Of results, the longest unused first, those that may go: used by no other recipe than `recipe`, unused for so many
    `days`, and no more than it takes until what stays fits into `room` bytes."""
    found = list(results)
    excess = sum(one.size for one in found) - room if room is not None else 0
    if recipe is not None:
        found = [one for one in found if one.recipes == {recipe}]
    if days is not None:
        found = [one for one in found if one.used < time.time() - days * 86400]
    if room is None:
        return found
    before = itertools.accumulate((one.size for one in found), initial=0)
    return [one for one, gone in zip(found, before, strict=False) if gone < excess]


def _look(folder: Path) -> Kept:
    files = [path for path in folder.rglob("*") if path.is_file()]
    marks = [path for path in files if path.name.startswith(_USED)]
    times = [path.stat().st_mtime for path in marks or files or [folder]]
    recipes = frozenset(path.name.removeprefix(_USED) for path in marks)
    return Kept(folder, sum(path.stat().st_size for path in files), max(times), recipes)


def _oldest_user(root: Path) -> float:
    """When the oldest process that still uses the cache started; infinity if none does."""
    starts = [time.time()]
    for path in (root / _USERS).glob("*"):
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            starts.append(float(path.name.split("-")[0]))
        else:
            lock.release()
            path.unlink(missing_ok=True)
    return min(starts) if len(starts) > 1 else float("inf")


def _delete(folder: Path) -> bool:
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    try:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.release()
    return not folder.exists()


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")
