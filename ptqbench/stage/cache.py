"""A content-keyed store of stage results. Everything is written to a temporary name and renamed, so a kill leaves no half."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ptqbench.digest import CHUNK
from ptqbench.errors import UserError, why_unreadable
from ptqbench.files import acquire, atomic
from ptqbench.results.record import StageCost
from ptqbench.stage.arithmetic import arithmetic
from ptqbench.stage.counting import Evaluations, Tally, counting, include
from ptqbench.stage.memory import watching_memory
from ptqbench.stage.upkeep import LOCK, enter, mark_used

_COST = "cost.json"
"""The file in a stage's folder that says what its computation took."""

_SUMS = ".sums"
"""How the files in a stage's folder begin that have the checksums of the others; each process writes one of its own."""

_TOKEN = os.urandom(6).hex()
"""With its number the name of this process among those of all machines."""


def content_key(*parts: Any) -> str:
    """SHA-256 (hex, 32 digits) of the canonical JSON of `parts`: what a stage read, which names its result."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class CacheWriteError(UserError):
    """Results cannot be kept: that ends the run, since no later stage could keep its own. Finished ones stay."""


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Raises `CacheWriteError` where nothing can be written below `folder`: a full disk, a quota, rights."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        # safetensors has errors of its own for what the system says: "I/O error: No space left on device (os error 28)".
        if isinstance(error, SafetensorError) and "os error" not in str(error):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).rpartition("I/O error: ")[2]
        raise CacheWriteError(
            f"the cache cannot keep a result in {folder}: {reason}",
            "make room there, or name another folder with --cache; finished stages are kept and not computed again",
        ) from error


@dataclass(frozen=True)
class Entry:
    """The folder of one stage result; files in it are whole or absent.

    A kill leaves no half, since files are renamed into their places; what a disk or a copy does to them is found by checksums,
    and what is damaged counts as absent, is computed again, and is written over: nothing here deletes a file. `check` is asked
    before a file is written, and raises where what was computed cannot be kept; `saved` is told of each one that was.
    """

    path: Path
    saved: Callable[[], object] | None = None
    check: Callable[[], object] | None = None

    @property
    def name(self) -> str:
        """The result's name among all results: "stage/key"."""
        return f"{self.path.parent.name}/{self.path.name}"

    def has(self, name: str) -> bool:
        """Whether a file is there and whole."""
        try:
            found = _checksum(self.path / name)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return False
        # The checksums after the file: whoever replaced it meanwhile noted them before.
        noted = self._checksums(name)
        return not noted or found in noted

    def save_tensors(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        self._ask(self.check)
        with _writing(self.path), atomic(self.path / name) as temporary:
            save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, temporary)
            self._note(name, temporary)
        self._ask(self.saved)

    def load_tensors(self, name: str) -> dict[str, Tensor]:
        """Raises `UserError` if the file is damaged or gone."""
        with self._reading(name):
            return load_file(self.path / name)

    def save_json(self, name: str, data: Any) -> None:
        self._ask(self.check)
        with _writing(self.path), atomic(self.path / name) as temporary:
            temporary.write_text(json.dumps(data), encoding="utf-8")
            if name != _COST:  # which is written again and again, and has its checksum inside
                self._note(name, temporary)
        self._ask(self.saved)

    def load_json(self, name: str) -> Any:
        """Raises `UserError` if the file is damaged or gone."""
        with self._reading(name):
            return json.loads((self.path / name).read_text(encoding="utf-8"))

    def _note(self, name: str, written: Path) -> None:
        """Keep the checksum of a file that is about to be renamed into its place, beside those of what it replaces.

        So a file has its checksum here whichever of several processes renamed last, also where no lock keeps them apart.
        """
        with (self.path / f"{_SUMS}-{os.getpid()}-{_TOKEN}").open("a", encoding="utf-8") as stream:
            stream.write(f"\n{_checksum(written)} {name}\n")  # on a line of its own, also after one that a kill cut short

    def _checksums(self, name: str) -> set[int]:
        """The checksums that any process noted for a file; none for one that was kept before there were any."""
        found = set()
        for path in self.path.glob(f"{_SUMS}-*"):
            with contextlib.suppress(OSError):
                for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                    checksum, _, whose = line.partition(" ")
                    if whose == name and checksum.isdecimal():
                        found.add(int(checksum))
        return found

    @staticmethod
    def _ask(whom: Callable[[], object] | None) -> None:
        if whom is not None:
            whom()

    @contextlib.contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, SafetensorError) as error:
            raise UserError(
                f"the cached result {self.path / name} cannot be read: {why_unreadable(error)}",
                f"delete the folder {self.path}; the same command computes it again",
            ) from error


def _checksum(path: Path) -> int:
    """CRC-32 of a file, read in parts."""
    found = 0
    with path.open("rb") as stream:
        while part := stream.read(CHUNK):
            found = zlib.crc32(part, found)
    return found


class Cache:
    """Stage results under `root`/<stage>/<key>, shared by all runs and safe for several processes, of several machines too.

    A stage is computed under a lock of its key: a second process that needs the same result waits and then reads it. The
    lock falls with the process, also when it is killed. Locks save time, and no number depends on them: on a file system that
    has none two processes may compute the same, each file of which is written whole by either.
    """

    def __init__(self, root: Path, recipe: str = "") -> None:
        """`recipe` is whose use of a result is noted with it (`ptqbench.stage.upkeep`)."""
        self.root, self.recipe = root, recipe
        self._entered = enter(root) if recipe else None

    def entry(self, stage: str, key: str) -> Entry:
        return Entry(self.root / stage / key)

    @contextlib.contextmanager
    def locked(self, stage: str, key: str) -> Iterator[Entry]:
        """The entry while no other process works on it."""
        entry = self.entry(stage, key)
        # Never a marker file in place of a lock: those of jobs that were ended would stand for ever.
        lock = FileLock(entry.path / LOCK, fallback_to_soft=False)
        with _writing(entry.path):
            acquire(lock)
        try:
            if self.recipe:
                mark_used(entry.path, self.recipe)
            yield entry
        finally:
            lock.release()


class Costs:
    """What each stage took, measured when it was computed and remembered with its result.

    `tally` has the evaluations of these stages and of all results that they were made from.
    """

    def __init__(self) -> None:
        self.stages: dict[str, StageCost] = {}
        self.tally: Tally = {}

    @contextlib.contextmanager
    def measure(self, stage: str, entry: Entry, *, resumes: bool = True) -> Iterator[Entry]:
        """Time a computation under fixed arithmetic and count its evaluations; yields the entry to keep finished parts in.

        What an interrupted attempt took before is added, since its finished parts are reused, unless it `resumes` nothing. With
        each part the cost so far is noted, so that a process that is killed loses no more than the cost of its unfinished part.
        """
        start = time.perf_counter()
        before, tally = _noted(entry) if resumes and entry.has(_COST) else (StageCost(0.0, 0.0), {})
        with watching_memory() as peak:

            def note() -> StageCost:
                seconds = before.seconds + time.perf_counter() - start
                cost = StageCost(seconds, max(before.peak_mib, peak.look()))
                evaluations = {name: dataclasses.asdict(found) for name, found in tally.items()}
                data = {"seconds": cost.seconds, "peak_mib": cost.peak_mib, "evaluations": evaluations}
                entry.save_json(_COST, with_checksum(data))
                return cost

            try:
                with counting(entry.name, tally), arithmetic() as check:
                    yield dataclasses.replace(entry, saved=note, check=check)
            finally:
                self._add(stage, note(), tally)

    def _add(self, stage: str, cost: StageCost, tally: Tally) -> None:
        """A stage that was done in several parts counts as a whole."""
        if stage in self.stages:
            seen = self.stages[stage]
            cost = StageCost(seen.seconds + cost.seconds, max(seen.peak_mib, cost.peak_mib), seen.cached and cost.cached)
        self.stages[stage] = cost
        self.tally.update(tally)

    def include(self, other: Costs) -> None:
        """Count what others' stages took as well."""
        for stage, cost in other.stages.items():
            self._add(stage, cost, {})
        self.tally.update(other.tally)

    def recall(self, stage: str, entry: Entry) -> None:
        """Note the cost of a result that was read from the cache."""
        if entry.has(_COST):
            cost, tally = _noted(entry)
            include(tally)
            self._add(stage, dataclasses.replace(cost, cached=True), tally)

    def evaluations(self) -> dict[str, Evaluations]:
        """Evaluations by stage, of these stages and of all that they rest on."""
        found: dict[str, Evaluations] = {}
        for name, more in self.tally.items():
            stage = name.partition("/")[0]
            found[stage] = found.get(stage, Evaluations()) + more
        return found


def with_checksum(note: Mapping[str, Any]) -> dict[str, Any]:
    """A note of JSON values with the CRC-32 of the others: one that is written so often has no other file for it."""
    return {**note, "checksum": zlib.crc32(json.dumps(note, sort_keys=True).encode())}


def _noted(entry: Entry) -> tuple[StageCost, Tally]:
    """The cost and the tally that were noted with a result; nothing, if the note is damaged."""
    try:
        note = entry.load_json(_COST)
        if with_checksum({name: value for name, value in note.items() if name != "checksum"}) != note:
            raise ValueError("another checksum")
        tally = {name: Evaluations(**found) for name, found in note["evaluations"].items()}
        return StageCost(note["seconds"], note["peak_mib"]), tally
    except (UserError, ValueError, TypeError, KeyError, AttributeError):
        return StageCost(0.0, 0.0), {}


def cached_tensors(
    cache: Cache, costs: Costs, stage: str, key: str, make: Callable[[Entry], Mapping[str, Tensor]], *also: str
) -> dict[str, Tensor]:
    """The tensors of a stage, from the cache or from `make(entry)`; `make` may keep resumable parts in the entry, and leaves
    the files `also` there beside the tensors."""
    with cache.locked(stage, key) as entry:
        if all(map(entry.has, ("result.safetensors", *also))):
            costs.recall(stage, entry)
        else:
            with costs.measure(stage, entry) as parts:
                parts.save_tensors("result.safetensors", make(parts))
        return entry.load_tensors("result.safetensors")
