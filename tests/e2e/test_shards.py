"""Parts of a run, as a job array has them: one that is killed and started again, and the run that collects."""

from __future__ import annotations

import signal

from e2ekit import inside, metrics, results, run_args, started, write_recipe

TIMES = {"cost", "environment", "created", "invocation"}
"""What of a record is about its making."""


def without_times(record):
    cells = [{key: value for key, value in cell.items() if key not in TIMES} for cell in record["cells"]]
    for cell in cells:
        # What a killed process had begun was done twice, and counts.
        cell["budget"] = {key: cell["budget"][key] for key in ("training", "validation", "gradient_steps")}
    return {key: value for key, value in record.items() if key not in TIMES} | {"cells": cells}


def test_shards_of_which_one_is_killed_and_started_again_make_the_undivided_record(tmp_path):
    recipe = write_recipe(tmp_path)
    whole, shared = run_args(recipe, tmp_path / "whole"), run_args(recipe, tmp_path / "shared")
    # A shard writes no results.
    args = [arg for i, arg in enumerate(shared) if arg != "--out" and shared[i - 1] != "--out"]

    def shard(i):
        return [*args, "--shard", f"{i}/2"]

    with started(*shard(0), TOY_STOP=f"unit:kill:{tmp_path}/marker") as process:
        second, undivided = inside(*shard(1)), inside(*whole)
        killed = process.ended()
    assert (undivided.returncode, second.returncode, killed.returncode) == (0, 0, -signal.SIGKILL), second.stderr
    again = inside(*shard(0))
    assert again.returncode == 0, again.stderr
    assert "shard 0/2: 2 of 2 cells are in the cache" in again.stderr
    collected = inside(*shared)
    assert collected.returncode == 0, collected.stderr
    found, expected = results(tmp_path / "shared"), results(tmp_path / "whole")
    assert metrics(found) == metrics(expected)
    assert without_times(found) == without_times(expected)
    assert all(cost["cached"] for cell in found["cells"] for cost in cell["cost"].values())


def test_a_part_that_is_none_is_refused(tmp_path):
    done = inside("run", write_recipe(tmp_path), "--shard", "2/2")
    assert done.returncode == 2
    assert "'2/2' is no part of a run: 0/4, 1/4, 2/4 and 3/4 are those of four" in done.stderr
