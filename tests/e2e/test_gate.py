"""The gate from end to end: a baseline from a run, the same commit again, and a fault that somebody brought in."""

from __future__ import annotations

import json
from contextlib import chdir
from pathlib import Path

import pytest
from e2ekit import inside, results, run_args, write_recipe

WRONG = '''"""Ranges with a wrong zero point: the fault that the gate has to find."""

from ptqbench import Component, hookimpl
from ptqbench_ranges.extrema import MinMax


class WrongZero(MinMax):
    def grid(self):
        scale, zero = super().grid()
        return scale, zero + 4


@hookimpl
def ptqbench_components():
    from ptqbench_ranges import MinMaxOptions

    return [Component("range", "wrong-zero", "a wrong zero point", WrongZero, MinMaxOptions)]
'''
LARGER = ("--set", "sampling.images=32", "--set", "sampling.batch=32", "--set", "evaluation.probes=32")
QUICK = (*LARGER, "--set", 'evaluation.metrics=["eps-error","psnr"]', "--set", "sweep.seeds=[0,1,2]")
PART = ("--only", "nearest/W4A8", "--only", "late/W4A8")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A baseline of two cells."""
    folder = tmp_path_factory.mktemp("gate")
    (folder / "wrong.py").write_text(WRONG)
    recipe = write_recipe(folder, "wrong.py")
    done = inside(*run_args(recipe, folder, *QUICK, *PART))
    assert done.returncode == 0, done.stderr
    made = inside("check", folder / "out", "--baseline", folder / "base.toml", "--update")
    assert made.returncode == 0, made.stderr
    return folder


def check(place: Path, *more: str | Path):
    return inside("check", place / "out", "--baseline", place / "base.toml", *more)


def test_only_some_cells_were_run(place):
    assert {cell["method"] for cell in results(place)["cells"]} == {"full-precision", "nearest", "late"}


def test_the_same_commit_passes(place):
    again = check(place)
    assert again.returncode == 0, again.stdout
    assert "same" in again.stdout
    strict = check(place, "--strict-state", "--strict-cost", "--format", "json")
    assert strict.returncode == 0, strict.stdout
    # The run names its processor, so that codes, seconds and memory are compared and not passed over.
    found = {(f["subject"], f["verdict"]) for f in json.loads(strict.stdout)["findings"]}
    assert {("codes and grids", "same"), ("seconds", "same"), ("memory (MiB)", "same")} <= found
    assert "information only" not in strict.stdout


def test_a_wrong_zero_point_fails_and_says_where(place):
    recipe, wrong = place / "toy.toml", ("--set", "methods.nearest.weights.range=wrong-zero")
    assert inside(*run_args(recipe, place, *QUICK, *PART, *wrong)).returncode == 0
    failed = check(place, "--format", "json")
    assert failed.returncode == 1, failed.stdout
    worse = [f for f in json.loads(failed.stdout)["findings"] if f["verdict"] == "worse" and not f["informational"]]
    assert {f["cell"] for f in worse} == {"nearest/W4A8"}
    found = next(f for f in worse if f["subject"] == "eps-error")
    assert found["difference"]["low"] > 0
    assert found["now"] > found["then"] + found["band"]
    codes = {f["cell"]: f["verdict"] for f in json.loads(failed.stdout)["findings"] if f["subject"] == "codes and grids"}
    assert codes == {"nearest/W4A8": "changed", "late/W4A8": "same"}
    words = ("toy.toml", "--only nearest/W4A8", "methods.nearest.weights.range=wrong-zero")
    assert all(x in found["command"] for x in words)
    with chdir(place):
        confirmed = check(place, "--confirm", "1", "--cache", place / "cache")
    assert confirmed.returncode == 1, confirmed.stderr
    assert "confirmed: fresh seeds 3 gave" in confirmed.stdout
