"""Ray Core: tasks in processes of one machine or of many, over a cache that all of them see.

What travels is a task's name, and a record or a few words back; tensors stay in the cache. Which task comes when, and what is
tried again after a process or a machine was lost, is the run's business like everywhere: Ray retries nothing by itself, since a
run's own retry goes on where the lost process had stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ptqbench.errors import UserError
from ptqbench.roles.executor import Crew, Ended, Executor, Task, Work, Workers
from ptqbench_executors import RayOptions

MOMENT = 0.5
"""Seconds between two looks at progress."""

_WORK: dict[bytes, Work] = {}
"""What this process, a worker's, has prepared."""

_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
"""Nothing is reported to anybody, and processes have the environment that this one has."""


class Ray(Executor):
    """Processes of the cluster at `address`; without one, of a cluster on this machine that ends with the run."""

    options: RayOptions

    @contextlib.contextmanager
    def open(self, crew: Crew) -> Iterator[Workers]:
        ray = _import()
        ours = not ray.is_initialized()
        if ours:
            self._connect(ray, crew)
        workers = _Remote(ray, crew, self.options.gpus)
        try:
            yield workers
        finally:
            workers.close()
            if ours:
                ray.shutdown()

    def _connect(self, ray: Any, crew: Crew) -> None:
        address = self.options.address or os.environ.get("RAY_ADDRESS", "")
        # Without a number Ray takes all processors of a machine, also where a batch system has given this job a few.
        where = {"address": address} if address else {"num_cpus": crew.workers * crew.threads, "include_dashboard": False}
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        try:
            ray.init(log_to_driver=False, logging_level="ERROR", **where)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"Ray cannot be reached at {address or 'this machine'}: {reason}",
                "start it with `ray start --head`, and name host:port with --address; docs/cluster.md has examples",
            ) from error


def _import() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UserError("the executor ray needs Ray, which is not installed", "pip install 'ptqbench[ray]'") from error
    return ray


class _Remote(Workers):
    """Remote tasks, as many at a time as the cluster has processors or GPUs for."""

    def __init__(self, ray: Any, crew: Crew, gpus: float) -> None:
        self.ray, self.crew, self.gpus = ray, crew, gpus
        self.prepare = pickle.dumps(crew.prepare)
        self.told = Path(crew.folder) / ".progress" / uuid.uuid4().hex
        self.told.mkdir(parents=True, exist_ok=True)
        self.tasks: dict[Any, Task] = {}
        # Two functions: a process that has used a GPU gives its memory back by ending, which Ray lets it do only where the
        # function says that it wants one.
        never = {"max_retries": 0, "num_cpus": crew.threads}
        on_gpu = {"num_gpus": gpus, "max_calls": 1} if crew.accelerator else {}
        self.remote = ray.remote(**never, **on_gpu)(_work)

    @property
    def slots(self) -> int:
        has = self.ray.cluster_resources()
        return max(1, int(has.get("GPU", 0) / self.gpus if self.crew.accelerator else has.get("CPU", 0) / self.crew.threads))

    def submit(self, task: Task) -> None:
        most = max((node["Resources"].get("memory", 0.0) for node in self.ray.nodes() if node["Alive"]), default=0.0)
        # No node must have more at a time than its memory has room for; more than any has would wait for ever.
        memory = int(min(self.crew.memory_mib * 2**20, most))
        remote = self.remote.options(name=task.label, **({"memory": memory} if memory else {}))
        self.tasks[remote.remote(self.prepare, task, str(self._note(task)))] = task

    def wait(self) -> list[Ended]:
        ready, _ = self.ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=MOMENT)
        for task in self.tasks.values():
            with contextlib.suppress(OSError, ValueError):
                self.crew.report(task, *json.loads(self._note(task).read_text(encoding="utf-8")))
        return [self._end(reference) for reference in ready]

    def _end(self, reference: Any) -> Ended:
        task, lost = self.tasks.pop(reference), self.ray.exceptions
        try:
            result, error, text = self.ray.get(reference)
        except (lost.RayTaskError, lost.TaskCancelledError):
            raise  # `_work` has no way to fail
        except lost.OutOfMemoryError:
            return Ended(task, lost="was ended by Ray because memory ran out", crowded=True)
        except lost.RayError as found:
            return Ended(task, lost=f"was lost ({type(found).__name__})")
        if error is not None:
            error.__cause__ = RuntimeError(f"\n{text}")
        return Ended(task, result, error)

    def _note(self, task: Task) -> Path:
        return self.told / f"{task.name.replace('/', '-')}.json"

    def close(self) -> None:
        """End what still runs: what it had finished is in the cache."""
        for reference in self.tasks:
            self.ray.cancel(reference, force=True)
        for path in self.told.iterdir():
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another run may tell its own there
            self.told.rmdir()
            self.told.parent.rmdir()


def _work(prepare: bytes, task: Task, told: str) -> tuple[Any, BaseException | None, str]:
    """In a worker: a task's result, or its error with the traceback. Preparing sets torch's threads: Ray's own choice is the
    number of processors that a task asks for, and numbers depend on it."""
    try:
        if prepare not in _WORK:
            _WORK.clear()  # the models of another run
            _WORK[prepare] = pickle.loads(prepare)()
        return _WORK[prepare](task, _teller(Path(told))), None, ""
    except (Exception, SystemExit) as error:
        return None, error, traceback.format_exc()


def _teller(path: Path) -> Callable[[str, float], None]:
    """Writes progress where the run looks for it, now and then. Nobody depends on it."""
    last = -MOMENT

    def tell(what: str, part: float) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= MOMENT:
            last = now
            with contextlib.suppress(OSError):
                path.with_suffix(".new").write_text(json.dumps([what, part]), encoding="utf-8")
                path.with_suffix(".new").replace(path)

    return tell
