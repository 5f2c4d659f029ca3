"""The program as a user runs it: processes on the toy model, interrupted at fixed points."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any, TextIO

from click.testing import CliRunner
from enginekit import TOY

from ptqbench.cli import cli

TOML = """
[recipe]
name = "toy"
baseline = "late"
plugins = [{plugins}]
[model]
use = "toy"
network = "plain"
[sampling]
steps = 5
images = 8
seed = 3
batch = 4
[calibration]
trajectories = 8
samples = 40
batch = 16
[evaluation]
features = "toy"
metrics = ["eps-error", "psnr", "fd"]
probes = 4
[methods.nearest]
[methods.late]
sampler = {{ use = "stride", points = 5 }}
weighter = "{weighter}"
reconstruction = {{ use = "brecq", iterations = 6, rounding_rate = 0.05, step_iterations = 3, batch = 8 }}
weights = {{ quantizer = "adaround", range = "mse" }}
activations = {{ quantizer = "lsq", range = "ema" }}
passes = ["first-last-8bit", "skip-split"]
[methods.gacq]
extends = "late"
weighter = {{ use = "gacq", every = 3, validation = 0.25, groups = 2 }}
{more}
[sweep]
bits = ["W4A8"]
"""

REFUSING = '[methods.refusing]\nextends = "late"\nweighter = "refusing"\n'

LATE = '''"""A third party's plugin: late timesteps count more."""

from ptqbench import Component, hookimpl
from ptqbench.roles.weighter import SampleWeighter


class Late(SampleWeighter):
    def weights(self, batch, problem):
        return 1.0 + batch.step.float()


@hookimpl
def ptqbench_components():
    return [Component("weighter", "late-steps", "late timesteps count more", Late)]
'''


def write_recipe(folder: Path, *plugins: Path | str, weighter: str = "ones", more: str = "") -> Path:
    """A recipe file on the toy model; `plugins` stand beside the toy plugin."""
    listed = ", ".join(json.dumps(str(p)) for p in (TOY, *plugins))
    path = folder / "toy.toml"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(TOML.format(plugins=listed, weighter=weighter, more=more))
    return path


def command(*args: str | Path) -> list[str]:
    """`python -m ptqbench ...`."""
    return [sys.executable, "-m", "ptqbench", *map(str, args)]


def environment(**more: str) -> dict[str, str]:
    """The environment of a subprocess, without the caller's settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PTQBENCH", "TOY"))}
    return {**kept, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **more}


def call(*args: str | Path, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the program to its end, in a new process."""
    where = {"cwd": cwd, "env": environment(**env)}
    return subprocess.run(command(*args), capture_output=True, text=True, timeout=240, start_new_session=True, **where)


def inside(*args: str | Path) -> subprocess.CompletedProcess[str]:
    """The same in this process, where nothing depends on its being one of its own."""
    done = CliRunner(env={"COLUMNS": "200"}).invoke(cli, [*map(str, args)])
    return subprocess.CompletedProcess(command(*args), done.exit_code, done.stdout, done.stderr)


def run_args(recipe: Path, folder: Path, *more: str, workers: int = 1) -> list[str | Path]:
    """Arguments of `run` with a cache and an output folder below `folder`."""
    where = ["--cache", folder / "cache", "--out", folder / "out"]
    return ["run", recipe, *where, "--device", "cpu", "--workers", str(workers), *more]


class Forked:
    """The program in a copy of this process, in a process group of its own: what a new one imports for seconds is there."""

    def __init__(self, args: Sequence[str], env: dict[str, str], out: TextIO, err: TextIO) -> None:
        self._said = out, err
        self._process = multiprocessing.get_context("fork").Process(target=self._run, args=(args, env))
        self._process.start()
        self.pid = self._process.pid or 0

    def _run(self, args: Sequence[str], env: dict[str, str]) -> None:
        os.setsid()
        # Tests that a shell runs in the background inherit an ignored SIGINT, which Python then never sees.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for server in (forkserver._forkserver, resource_tracker._resource_tracker):
            type(server).__init__(server)  # those of this process's parent are none of its own
        os.environ.clear()
        os.environ.update(environment(**env))
        sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        for number, stream in enumerate(self._said, 1):
            os.dup2(stream.fileno(), number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        cli.main(args)

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def ended(self, seconds: float = 240) -> subprocess.CompletedProcess[str]:
        """What it said, when it has ended."""
        self._process.join(seconds)
        said = []
        for stream in self._said:
            stream.seek(0)
            said.append(stream.read())
        assert self.poll() is not None, said
        return subprocess.CompletedProcess([], self.poll() or 0, *said)


@contextlib.contextmanager
def started(*args: str | Path, **env: str) -> Iterator[Forked]:
    """The running program, which ends with the block whatever happens."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = Forked([*map(str, args)], env, out, err)
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.ended()


def wait_for(condition: Any, seconds: float = 120) -> bool:
    """Whether something becomes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def members(group: int) -> list[int]:
    """Living processes of a process group."""
    return [pid for pid, pgrp, state in _processes() if pgrp == group and state not in "ZX"]


def _processes() -> Iterator[tuple[int, int, str]]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        yield int(stat.parent.name), int(fields[2]), fields[0]


def results(folder: Path) -> dict[str, Any]:
    """The run's record."""
    data: dict[str, Any] = json.loads((folder / "out" / "results.json").read_text())
    return data


def metrics(record: dict[str, Any]) -> dict[str, Any]:
    """Metrics by cell."""
    return {cell["id"]: cell["metrics"] for cell in record["cells"]}
