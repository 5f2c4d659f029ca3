"""What the cache holds and for whom, and that making room takes nothing from a process that computes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ptqbench.errors import UserError
from ptqbench.stage.cache import Cache, Costs, cached_tensors
from ptqbench.stage.upkeep import Kept, chosen, kept, prune

DAY = 86400.0


def computed(root: Path, recipe: str, stage: str, key: str, numbers: int = 100) -> Path:
    cached_tensors(Cache(root, recipe), Costs(), stage, key, lambda _: {"x": torch.zeros(numbers)})
    return root / stage / key


def aged(folder: Path, days: float) -> None:
    for path in folder.iterdir():
        os.utime(path, (time.time() - days * DAY,) * 2)


def test_results_are_known_with_their_size_their_last_use_and_who_used_them(tmp_path: Path) -> None:
    shared = computed(tmp_path, "one", "trajectories", "a", numbers=1000)
    computed(tmp_path, "one", "images", "b")
    aged(shared, 10)
    aged(tmp_path / "images/b", 20)
    assert [one.folder for one in kept(tmp_path)] == [tmp_path / "images/b", shared]
    computed(tmp_path, "the other", "trajectories", "a")
    found = {one.folder: one for one in kept(tmp_path)}
    assert found[shared].recipes == {"one", "the-other"} and found[shared].stage == "trajectories"
    assert found[shared].size == sum(path.stat().st_size for path in shared.iterdir()) > 4000
    assert found[shared].used == pytest.approx(time.time(), abs=60)


def test_what_may_go_is_narrowed_by_recipe_age_and_room(tmp_path: Path) -> None:
    now = time.time()

    def result(name: str, size: int, days: float, *recipes: str) -> Kept:
        return Kept(tmp_path / "stage" / name, size, now - days * DAY, frozenset(recipes))

    old, shared, new = result("old", 30, 9, "a"), result("shared", 50, 5, "a", "b"), result("new", 20, 1, "a")
    results = [old, shared, new]
    assert chosen(results, recipe="a") == [old, new]
    assert chosen(results, recipe="b") == []
    assert chosen(results, days=4) == [old, shared]
    assert chosen(results, days=4, recipe="a") == [old]
    assert [chosen(results, room=room) for room in (100, 99, 70, 69, 0)] == [[], [old], [old], [old, shared], results]
    assert chosen(results, room=0, recipe="a") == [old, new]


def test_pruned_results_are_gone_and_are_computed_again(tmp_path: Path) -> None:
    folder = computed(tmp_path, "one", "stage", "a")
    assert [one.folder for one in prune(tmp_path, kept(tmp_path))] == [folder]
    assert not folder.exists() and kept(tmp_path) == []
    assert computed(tmp_path, "one", "stage", "a").is_dir()


def test_what_a_running_process_may_have_used_stays(tmp_path: Path) -> None:
    before = computed(tmp_path, "one", "stage", "before")
    aged(before, 1)
    running = Cache(tmp_path, "two")
    used = computed(tmp_path, "two", "stage", "used")
    assert [one.folder for one in prune(tmp_path, kept(tmp_path))] == [before]
    assert used.is_dir()
    del running
    assert [one.folder for one in prune(tmp_path, kept(tmp_path))] == [used]


def test_a_result_that_is_being_computed_stays(tmp_path: Path) -> None:
    with Cache(tmp_path).locked("stage", "a") as entry:
        assert prune(tmp_path, kept(tmp_path)) == []
        assert entry.path.is_dir()


def test_a_process_that_was_killed_protects_nothing(tmp_path: Path) -> None:
    code = "import os; from pathlib import Path; from ptqbench.stage.upkeep import enter; held = enter(Path()); os._exit(9)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    assert len(list((tmp_path / ".users").iterdir())) == 1
    folder = computed(tmp_path, "one", "stage", "a")
    assert [one.folder for one in prune(tmp_path, kept(tmp_path))] == [folder]
    assert list((tmp_path / ".users").iterdir()) == []


def test_a_cache_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no cache at"):
        kept(tmp_path / "nowhere")
