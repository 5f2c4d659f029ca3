"""Ray on this machine: a cluster of two nodes with a processor each, and what may happen to it."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from enginekit import experiment, values

from ptqbench.api.settings import executor_for
from ptqbench.errors import UserError
from ptqbench.recipe.experiment import Experiment
from ptqbench.results.record import RunRecord
from ptqbench.roles.executor import Crew, Task
from ptqbench.running.run import run_experiment
from ptqbench.stage.context import Settings
from ptqbench_executors.ray import _Remote, _work

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

STORE = 80 * 2**20
"""Bytes of each node's object store, the least that Ray takes."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """The head and one more node."""
    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False}
    )
    made.add_node(num_cpus=1, object_store_memory=STORE)
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture(scope="module")
def made() -> Experiment:
    return experiment("model.network=plain", 'sweep.bits=["W4A32", "W4A8"]', methods=("qdiffusion",))


@pytest.fixture(scope="module")
def here(made: Experiment, tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """The same on this machine, in this process."""
    return run_experiment(made, Settings(tmp_path_factory.mktemp("here"), "cpu", 1, 1), lambda *_: None, lambda _: None)


def run(made: Experiment, cache: Path, when: Callable[[Any, str], None] = lambda *_: None) -> RunRecord:
    """A run on the cluster; `when` is told tasks and what they do."""
    executor = executor_for(made, "ray")
    return run_experiment(made, Settings(cache, "cpu", 1, 1), lambda task, what, _: when(task, what), lambda _: None, executor)


def numbers(record: RunRecord) -> dict[str, Any]:
    assert [cell.reason for cell in record.cells if cell.status != "ok"] == []
    # Evaluations are costs: those of a unit that was begun twice count twice.
    return {cell.id: (values(cell), cell.state_hash, cell.budget.gradient_steps) for cell in record.cells}


def worker_of(label: str) -> int | None:
    """The process that works on a task, which Ray names after it."""
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if process.read_bytes().startswith(f"ray::{label}".encode()):
                return int(process.parent.name)
        except OSError:
            continue
    return None


def test_the_numbers_are_those_of_this_machine_also_with_a_full_object_store(cluster, made, here, tmp_path):
    full = [ray.put(bytes(20 * 2**20)) for _ in range(3)]
    told: list[str] = []
    record = run(made, tmp_path, lambda task, what: told.append(f"{task.kind} {what}"))
    assert numbers(record) == numbers(here)
    assert any(line.startswith("fit ") and line != "fit " for line in told), "progress of a fit"
    assert not (tmp_path / ".progress").exists()
    del full


def test_a_worker_that_is_killed_costs_its_unfinished_part(cluster, made, here, tmp_path):
    killed: list[int] = []

    def kill(task: Any, what: str) -> None:
        if not killed and task.kind == "fit" and what and (process := worker_of(task.label)) is not None:
            killed.append(process)
            os.kill(process, signal.SIGKILL)

    assert numbers(run(made, tmp_path, kill)) == numbers(here)
    assert killed


def test_a_node_that_goes_in_the_middle_costs_what_it_had_in_hand(cluster, made, here, tmp_path):
    extra = [cluster.add_node(num_cpus=1, object_store_memory=STORE)]

    def remove(task: Any, what: str) -> None:
        if extra and task.kind == "fit" and what:
            cluster.remove_node(extra.pop(), allow_graceful=False)

    assert numbers(run(made, tmp_path, remove)) == numbers(here)
    assert not extra


def test_an_interrupt_ends_remote_tasks_and_the_same_command_continues(cluster, made, here, tmp_path):
    def interrupt(task: Any, what: str) -> None:
        if task.kind == "fit" and what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(made, tmp_path, interrupt)
    threading.Event().wait(1.0)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.safetensors")}
    time.sleep(1.0)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.safetensors")}
    assert numbers(run(made, tmp_path)) == numbers(here)


def stumbling() -> Callable[..., Any]:
    """Prepares work that fails as a plugin may."""

    def work(task: Task, tell: Callable[[str, float], None]) -> None:
        raise SystemExit(f"no {task.label}")

    return work


def test_an_error_comes_back_from_a_worker_with_its_traceback_as_from_a_process_here(tmp_path):
    task = Task("cell", 0, label="one")
    answer = _work(pickle.dumps(stumbling), task, str(tmp_path / "note.json"))
    crew = Crew(prepare=None, here=None, workers=1, threads=1, memory_mib=0.0, accelerator=False, folder=tmp_path, report=None)
    workers = _Remote(SimpleNamespace(remote=ray.remote, get=lambda _: answer, exceptions=ray.exceptions), crew, 1.0)
    workers.tasks["reference"] = task
    ended = workers._end("reference")
    assert (ended.task, ended.result, str(ended.error)) == (task, None, "no one")
    assert "in work" in str(ended.error.__cause__)


def test_a_cluster_that_is_not_there_is_told(made, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: (_ for _ in ()).throw(ConnectionError("no such host")))
    with pytest.raises(UserError, match="Ray cannot be reached at nowhere:1: no such host"):
        run_here = executor_for(made, {"use": "ray", "address": "nowhere:1"})
        with run_here.open(None):  # type: ignore[arg-type]
            pass
