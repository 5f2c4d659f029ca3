"""Who uses which cached results, what they take, and making room without taking anything from a process that computes."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
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

_CLOCK = ".clock"
"""In the cache's folder, a file that is touched to read the clock of whoever gives files their times, a file server perhaps."""

_GONE = ".gone-"
"""How a result's folder begins that is being deleted."""

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
        (folder / f"{_USED}{_stored(recipe)}").touch()


def _stored(recipe: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", recipe)


def enter(root: Path) -> FileLock | None:
    """Mark this process as a user of the cache for as long as the lock is held; None where nothing can be written."""
    try:
        (root / _USERS).mkdir(parents=True, exist_ok=True)
        (root / _CLOCK).touch()
        start = (root / _CLOCK).stat().st_mtime
        lock = FileLock(root / _USERS / f"{start!r}-{os.getpid()}-{next(_numbers)}", fallback_to_soft=False)
        lock.acquire(timeout=5)  # which takes only as long as somebody looks whether this is held
    except (OSError, NotImplementedError):
        return None
    return lock


def kept(root: Path) -> list[Kept]:
    """All results, the longest unused first; other folders are none. Raises `UserError` if there is no such folder."""
    if not root.is_dir():
        raise UserError(f"there is no cache at {root}", "name its folder with --cache")
    folders = (entry for stage in root.iterdir() if stage.is_dir() and not _hidden(stage) for entry in stage.iterdir())
    looked = (_look(folder) for folder in folders if folder.is_dir() and not _hidden(folder))
    return sorted((found for found in looked if found is not None), key=lambda found: found.used)


def prune(root: Path, chosen: Iterable[Kept]) -> list[Kept]:
    """Delete results, and return those that were: not what anybody is computing, nor what a process that still runs may have
    used since it started, nor what was used since it was looked at.

    Raises `UserError` where the file system has no locks, which are how anybody knows.
    """
    for left in root.glob(f"*/{_GONE}*"):  # by one that was ended
        shutil.rmtree(left, ignore_errors=True)
    return [found for found in chosen if _delete(root, found)]


def chosen(
    results: Iterable[Kept], *, recipe: str | None = None, days: float | None = None, room: int | None = None
) -> list[Kept]:
    """Of results, the longest unused first, those that may go: used by no other recipe than `recipe`, unused for so many
    `days`, and no more than it takes until what stays fits into `room` bytes."""
    found = list(results)
    excess = sum(one.size for one in found) - room if room is not None else 0
    if recipe is not None:
        found = [one for one in found if one.recipes == {_stored(recipe)}]
    if days is not None:
        found = [one for one in found if one.used < time.time() - days * 86400]
    if room is None:
        return found
    before = itertools.accumulate((one.size for one in found), initial=0)
    return [one for one, gone in zip(found, before, strict=False) if gone < excess]


def _look(folder: Path) -> Kept | None:
    """None for a folder that no recipe has used: somebody else's, where this is no cache, or one that is not there any more.
    What vanishes meanwhile, as the temporary files of a run do, is left out."""
    states = {Path(parent, name): _state(Path(parent, name)) for parent, _, names in os.walk(folder) for name in names}
    files = {path: state for path, state in states.items() if state is not None and stat.S_ISREG(state.st_mode)}
    marks = {path: state for path, state in files.items() if path.parent == folder and path.name.startswith(_USED)}
    if not marks:
        return None
    used = max(state.st_mtime for state in marks.values())
    recipes = frozenset(path.name.removeprefix(_USED) for path in marks)
    return Kept(folder, sum(state.st_size for state in files.values()), used, recipes)


def _state(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _oldest_user(root: Path) -> float:
    """When the oldest process that still uses the cache started; infinity if none does."""
    starts = []
    for path in (root / _USERS).glob("[!.]*"):
        with _tried(path) as free:
            if free:
                path.unlink(missing_ok=True)
            else:
                starts.append(float(path.name.split("-")[0]))
    return min(starts, default=float("inf"))


def _delete(root: Path, found: Kept) -> bool:
    """Whether a result could be deleted. Who uses it marks that under its lock, so its use is looked at again under it."""
    if not found.folder.is_dir():
        return False
    with _tried(found.folder / LOCK) as free:
        now = _look(found.folder) if free else None
        if now is None or now.used > found.used or now.used >= _oldest_user(root):
            return False
        # At once out of sight: whoever waits for the lock makes a folder of its own, in which nothing is deleted.
        gone = found.folder.with_name(f"{_GONE}{os.getpid()}-{next(_numbers)}-{found.folder.name}")
        try:
            found.folder.rename(gone)
        except OSError:
            return False
        shutil.rmtree(gone, ignore_errors=True)
        return True


@contextlib.contextmanager
def _tried(path: Path) -> Iterator[bool]:
    """Whether nobody held this lock, which is held in the block then. Raises `UserError` where there are no locks."""
    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except (Timeout, FileNotFoundError):  # held, or its folder was pruned by somebody else
        yield False
        return
    except (OSError, NotImplementedError) as error:
        raise UserError(
            f"nobody can tell whether {path.parent} is in use: {error}", "delete its folders yourself while nothing runs"
        ) from error
    try:
        yield True
    finally:
        lock.release()


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")
