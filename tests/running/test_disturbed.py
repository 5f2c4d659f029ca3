"""What may happen to a run: kills at any moment, a full disk, files that rot, a second run beside it, a clock that jumps. The
numbers of the undisturbed run come out of all of it.

PTQBENCH_KILLS=30 in the environment kills so often; a few do else.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from enginekit import experiment, values

from ptqbench.recipe.experiment import Experiment
from ptqbench.running.run import run_experiment
from ptqbench.stage.cache import CacheWriteError
from ptqbench.stage.context import Settings

FULL = 28
"""The exit code of a run that the disk had no room for."""

KILLS = int(os.environ.get("PTQBENCH_KILLS", "4"))

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked, so that they need not import torch")


@pytest.fixture(scope="module")
def made() -> Experiment:
    """Four cells beside full precision: two methods with their weights fitted once for two bit settings."""
    short = "methods.qdiffusion.reconstruction.iterations=3"
    return experiment("model.network=plain", 'sweep.bits=["W4A32", "W4A8"]', short, methods=("qdiffusion", "gacq"))


def run(made: Experiment, cache: Path) -> Any:
    """What of a record is no cost, as JSON has it. Evaluations are costs: those of a unit that was begun twice count twice."""
    record = run_experiment(made, Settings(cache, "cpu", 1, 1), lambda *_: None, lambda _: None)
    assert [cell.reason for cell in record.cells if cell.status != "ok"] == []
    found = {cell.id: [values(cell), cell.state_hash, cell.budget.gradient_steps, len(cell.fits)] for cell in record.cells}
    return json.loads(json.dumps(found))


def forked(made: Experiment, cache: Path, out: Path, largest: int = resource.RLIM_INFINITY) -> int:
    """A run in a process of its own, which leaves its numbers in a file; no file of the cache may be larger than `largest`."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
            out.with_suffix(".half").write_text(json.dumps(run(made, cache)))
            out.with_suffix(".half").rename(out)
            code = 0
        except CacheWriteError:
            code = FULL
        finally:
            os._exit(code)
    return process


@pytest.fixture(scope="module")
def undisturbed(made: Experiment, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, float]:
    """Its numbers, its cache, and its seconds."""
    cache, start = tmp_path_factory.mktemp("undisturbed"), time.perf_counter()
    return run(made, cache), cache, time.perf_counter() - start


def test_kills_at_any_moment(made, undisturbed, tmp_path):
    expected, _, seconds = undisturbed
    rng, kills, finished = random.Random(0), 0, 0
    while kills < KILLS or not finished:
        out = tmp_path / f"{finished}.json"
        process, end = forked(made, tmp_path / f"cache{finished}", out), time.perf_counter() + rng.uniform(0, 0.6 * seconds)
        # After the last kill the run may end.
        while not (ended := os.waitpid(process, os.WNOHANG))[0] and (kills >= KILLS or time.perf_counter() < end):
            time.sleep(0.002)
        if not ended[0]:
            os.kill(process, signal.SIGKILL)
            ended = os.waitpid(process, 0)
            kills += 1
        if os.WIFEXITED(ended[1]):
            assert os.WEXITSTATUS(ended[1]) == 0
            assert json.loads(out.read_text()) == expected
            finished += 1
    assert (kills, finished) >= (KILLS, 1)


def test_two_runs_at_once(made, undisturbed, tmp_path):
    outs = [tmp_path / "a.json", tmp_path / "b.json"]
    for process in [forked(made, tmp_path / "cache", out) for out in outs]:
        assert os.waitpid(process, 0)[1] == 0
    assert [json.loads(out.read_text()) for out in outs] == [undisturbed[0]] * 2


def test_a_full_disk(made, undisturbed, tmp_path):
    """It fills up at the first large file, and again with the last one."""
    kept = []
    for largest in (2000, 13000):
        process = forked(made, tmp_path / "cache", tmp_path / "out.json", largest)
        assert os.WEXITSTATUS(os.waitpid(process, 0)[1]) == FULL
        kept.append(len(list((tmp_path / "cache").rglob("*.safetensors"))))
    assert kept[0] < kept[1]
    assert run(made, tmp_path / "cache") == undisturbed[0]


def flip(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


@pytest.mark.parametrize("damage", [flip, cut])
def test_files_that_rot(made, undisturbed, tmp_path, damage: Callable[[bytes, random.Random], bytes]):
    """One of each kind of file, and the records, so that they are needed again."""
    expected, cache, _ = undisturbed
    rng, kinds = random.Random(1), dict[str, Path]()
    for path in sorted(cache.glob("*/*/*")):
        copy = tmp_path / path.relative_to(cache)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.name != "record.json":
            copy.write_bytes(path.read_bytes())
            kinds[f"{path.parent.parent.name} {path.name}"] = copy
    rotten = [path for path in kinds.values() if not path.name.startswith(".")]
    assert len(rotten) > 20
    for path in rotten:
        path.write_bytes(damage(path.read_bytes(), rng))
    found = run(made, tmp_path)
    assert found == expected


def test_a_clock_that_jumps(made, undisturbed, tmp_path, monkeypatch):
    rng, real = random.Random(2), time.time
    monkeypatch.setattr(time, "time", lambda: real() + rng.uniform(-1e9, 1e9))
    assert run(made, tmp_path) == undisturbed[0]
    for path in tmp_path.glob("*/*/*"):
        os.utime(path, (rng.uniform(0, 4e9),) * 2)
    assert run(made, tmp_path) == undisturbed[0]
