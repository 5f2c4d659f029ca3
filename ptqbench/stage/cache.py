"""A content-keyed store of stage results. Everything is written to a temporary name and renamed, so a kill leaves no half."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ptqbench.errors import UserError
from ptqbench.results.record import StageCost
from ptqbench.stage.arithmetic import arithmetic
from ptqbench.stage.counting import Evaluations, Tally, counting, include
from ptqbench.stage.memory import watching_memory

_COST = "cost.json"
"""The file in a stage's folder that says what its computation took."""


def content_key(*parts: Any) -> str:
    """SHA-256 (hex, 32 digits) of the canonical JSON of `parts`: what a stage read, which names its result."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary name in the same folder that becomes `path` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
    """The folder of one stage result; files in it are complete or absent.

    `check` is asked before a file is written, and raises where what was computed cannot be kept; `saved` is told of each one
    that was.
    """

    path: Path
    saved: Callable[[], object] | None = None
    check: Callable[[], object] | None = None

    @property
    def name(self) -> str:
        """The result's name among all results: "stage/key"."""
        return f"{self.path.parent.name}/{self.path.name}"

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def save_tensors(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        self._ask(self.check)
        with _writing(self.path), atomic(self.path / name) as temporary:
            save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, temporary)
        self._ask(self.saved)

    def load_tensors(self, name: str) -> dict[str, Tensor]:
        """Raises `UserError` if the file is damaged or gone."""
        with self._reading(name):
            return load_file(self.path / name)

    def save_json(self, name: str, data: Any) -> None:
        self._ask(self.check)
        with _writing(self.path), atomic(self.path / name) as temporary:
            temporary.write_text(json.dumps(data), encoding="utf-8")
        self._ask(self.saved)

    def load_json(self, name: str) -> Any:
        """Raises `UserError` if the file is damaged or gone."""
        with self._reading(name):
            return json.loads((self.path / name).read_text(encoding="utf-8"))

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
                f"the cached result {self.path / name} cannot be read: {error}",
                f"delete the folder {self.path}; the same command computes it again",
            ) from error


class Cache:
    """Stage results under `root`/<stage>/<key>, shared by all runs and safe for several processes.

    A stage is computed under a lock of its key: a second process that needs the same result waits and then reads it. The
    lock falls with the process, also when it is killed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def entry(self, stage: str, key: str) -> Entry:
        return Entry(self.root / stage / key)

    @contextlib.contextmanager
    def locked(self, stage: str, key: str) -> Iterator[Entry]:
        """The entry while no other process works on it."""
        entry = self.entry(stage, key)
        lock = FileLock(entry.path / ".lock")
        with _writing(entry.path):
            entry.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        try:
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
    def measure(self, stage: str, entry: Entry) -> Iterator[Entry]:
        """Time a computation under fixed arithmetic and count its evaluations; yields the entry to keep finished parts in.

        What an interrupted attempt took before is added, since its finished parts are reused. With each part the cost so
        far is noted, so that a process that is killed loses no more than the cost of its unfinished part.
        """
        start = time.perf_counter()
        before, tally = _noted(entry) if entry.has(_COST) else (StageCost(0.0, 0.0), {})
        with watching_memory() as peak:

            def note() -> StageCost:
                seconds = before.seconds + time.perf_counter() - start
                cost = StageCost(seconds, max(before.peak_mib, peak.look()))
                evaluations = {name: dataclasses.asdict(found) for name, found in tally.items()}
                entry.save_json(_COST, {"seconds": cost.seconds, "peak_mib": cost.peak_mib, "evaluations": evaluations})
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


def _noted(entry: Entry) -> tuple[StageCost, Tally]:
    """The cost and the tally that were noted with a result."""
    data = entry.load_json(_COST)
    tally = {name: Evaluations(**found) for name, found in data.get("evaluations", {}).items()}
    return StageCost(data["seconds"], data["peak_mib"]), tally


def cached_tensors(
    cache: Cache, costs: Costs, stage: str, key: str, make: Callable[[Entry], Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """The tensors of a stage, from the cache or from `make(entry)`; `make` may keep resumable parts in the entry."""
    with cache.locked(stage, key) as entry:
        if entry.has("result.safetensors"):
            costs.recall(stage, entry)
        else:
            with costs.measure(stage, entry) as parts:
                parts.save_tensors("result.safetensors", make(parts))
        return entry.load_tensors("result.safetensors")
