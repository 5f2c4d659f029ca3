"""Killed and interrupted runs: the same command continues and gives the uninterrupted run's numbers."""

from __future__ import annotations

import os
import signal

from e2ekit import inside, members, metrics, results, run_args, started, wait_for, write_recipe
from enginekit import files

ONLY = ("--only", "nearest", "--only", "late")
"""The cell that is stopped, and one that is finished before it."""


def unchanged(before: dict[str, int], after: dict[str, int]) -> bool:
    """Whether everything finished was kept; only notes of what a stage took may be added to."""
    kept = {name: time for name, time in before.items() if not name.endswith("cost.json") and not _temporary(name)}
    return bool(kept) and all(after[name] == time for name, time in kept.items())


def _temporary(name: str) -> bool:
    return name.rpartition("/")[2].startswith(".")


def same_numbers(folder, finished) -> bool:
    found, expected = metrics(results(folder)), metrics(results(finished.folder))
    return all(found[name] == expected[name] for name in found)


def test_a_run_killed_in_a_unit_and_then_in_sampling_continues(tmp_path, finished):
    recipe, cache = write_recipe(tmp_path), tmp_path / "cache"
    args = run_args(recipe, tmp_path, *ONLY)

    with started(*args, TOY_STOP=f"unit:kill:{tmp_path}/in-unit") as process:
        first = process.ended()
    assert first.returncode == -signal.SIGKILL, first.stderr
    assert (tmp_path / "in-unit").exists()
    in_unit = files(cache)
    done = {name.rpartition("/")[0] for name in in_unit if name.endswith("result.safetensors")}
    units = [name.rpartition("/") for name in in_unit if name.startswith("reconstruct-rounding/") and name.endswith(".json")]
    # What the finished unit took is noted with it.
    assert [name for folder, _, name in units if folder not in done] == ["cost.json", "unit-000.json"]

    with started(*args, TOY_STOP=f"sampling:kill:{tmp_path}/in-sampling") as process:
        second = process.ended()
    assert second.returncode == -signal.SIGKILL, second.stderr
    assert (tmp_path / "in-sampling").exists()
    in_sampling = files(cache)
    assert unchanged(in_unit, in_sampling)
    images = [name for name in in_sampling if name.startswith("images") and name.endswith("result.safetensors")]
    assert len(images) % 2 == 1  # of two parts each, and the last cell was in its second one
    assert not (tmp_path / "out").exists()

    third = inside(*args)
    assert third.returncode == 0, third.stderr
    assert unchanged(in_sampling, files(cache))
    assert same_numbers(tmp_path, finished)


def ended(process) -> str:
    """Wait for the end of an interrupted run, check what it says, and return its stdout."""
    done = process.ended(100)
    assert done.returncode == 130, done.stderr
    assert "interrupted; the same command continues from here" in done.stderr
    assert "Traceback" not in done.stderr
    assert wait_for(lambda: not members(process.pid), 10)
    return done.stdout


def test_an_interrupt_ends_all_processes_and_the_same_command_continues(tmp_path, finished):
    recipe, cache = write_recipe(tmp_path), tmp_path / "cache"
    reached = tmp_path / "reached"
    with started(*run_args(recipe, tmp_path, *ONLY, workers=2), TOY_STOP=f"unit:wait:{reached}") as process:
        assert wait_for(lambda: reached.exists() or process.poll() is not None)
        os.killpg(process.pid, signal.SIGINT)
        assert ended(process) == ""

    before = files(cache)
    done = inside(*run_args(recipe, tmp_path, *ONLY))
    assert done.returncode == 0, done.stderr
    assert unchanged(before, files(cache))
    assert same_numbers(tmp_path, finished)


def test_an_interrupt_while_workers_start_prints_no_traceback(tmp_path):
    with started(*run_args(write_recipe(tmp_path), tmp_path, workers=2)) as process:
        # The parent, multiprocessing's resource tracker, and the one that workers are forks of, which is importing.
        assert wait_for(lambda: len(members(process.pid)) == 3 or process.poll() is not None)
        os.killpg(process.pid, signal.SIGINT)
        ended(process)


def test_workers_do_not_outlive_a_killed_parent(tmp_path):
    reached = tmp_path / "reached"
    args = run_args(write_recipe(tmp_path), tmp_path, workers=2)
    with started(*args, TOY_STOP=f"unit:wait:{reached}") as process:
        assert wait_for(lambda: reached.exists() or process.poll() is not None)
        process.kill()
        assert wait_for(lambda: not [pid for pid in members(process.pid) if pid != process.pid], 10)
