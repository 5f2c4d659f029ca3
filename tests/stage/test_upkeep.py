"""What the cache holds and for whom, and that making room takes nothing from a process that computes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from ptqbench.errors import UserError
from ptqbench.stage import upkeep
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
    computed(tmp_path, "one", "stage", "a")
    with Cache(tmp_path).locked("stage", "a") as entry:
        assert len(kept(tmp_path)) == 1 and prune(tmp_path, kept(tmp_path)) == []
        assert entry.path.is_dir()


def test_a_process_that_was_killed_protects_nothing(tmp_path: Path) -> None:
    code = "import os; from pathlib import Path; from ptqbench.stage.upkeep import enter; held = enter(Path()); os._exit(9)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    assert len(list((tmp_path / ".users").iterdir())) == 1
    folder = computed(tmp_path, "one", "stage", "a")
    assert [one.folder for one in prune(tmp_path, kept(tmp_path))] == [folder]
    assert list((tmp_path / ".users").iterdir()) == []


def test_in_a_folder_that_is_no_cache_nothing_is_a_result_and_nothing_goes(tmp_path: Path) -> None:
    """Whoever names a wrong folder with --cache loses nothing."""
    picture = tmp_path / "photos/2020/beach.png"
    picture.parent.mkdir(parents=True)
    picture.touch()
    aged(picture.parent, 1000)
    assert kept(tmp_path) == []
    stranger = Kept(picture.parent, 0, picture.stat().st_mtime, frozenset())
    for _ in range(2):  # what the first time leaves there must not help the second
        assert prune(tmp_path, [stranger]) == [] and picture.is_file()
    computed(tmp_path, "one", "stage", "a")
    assert [one.stage for one in kept(tmp_path)] == ["stage"]


def test_a_cache_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no cache at"):
        kept(tmp_path / "nowhere")


def test_what_is_used_after_it_was_chosen_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a run that starts after the look at the cache, or even after the last look at who uses it."""
    early, late, unused = (computed(tmp_path, "one", "stage", key) for key in ("early", "late", "unused"))
    for folder in (early, late, unused):
        aged(folder, 1)
    seen = sorted(kept(tmp_path), key=lambda found: found.folder != early)
    runs = [Cache(tmp_path, "two")]
    computed(tmp_path, "two", "stage", "early")
    assert early not in [one.folder for one in prune(tmp_path, seen[:1])] and early.is_dir()
    runs.clear()
    oldest = upkeep._oldest_user

    def then_it_starts(root: Path) -> float:
        found = oldest(root)
        if not runs:
            runs.append(Cache(tmp_path, "two"))
            computed(tmp_path, "two", "stage", "late")
        return found

    monkeypatch.setattr(upkeep, "_oldest_user", then_it_starts)
    others = sorted(seen[1:], key=lambda found: found.folder != unused)
    assert [one.folder for one in prune(tmp_path, others)] == [unused]
    assert late.is_dir()


@pytest.mark.parametrize("ahead", [-3600, 3600])
def test_the_start_of_a_process_is_told_by_the_clock_that_files_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    before = computed(tmp_path, "one", "stage", "before")
    aged(before, 0.01)
    real = time.time
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: real() + ahead)
        running = Cache(tmp_path, "two")
    used = computed(tmp_path, "two", "stage", "used")
    assert [one.folder for one in prune(tmp_path, kept(tmp_path))] == [before]
    assert used.is_dir()
    del running


def test_files_that_vanish_while_the_cache_is_looked_at_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = computed(tmp_path, "one", "stage", "a")
    size = kept(tmp_path)[0].size
    passing = folder / ".result.safetensors.tmp"
    passing.write_text("half")
    real = Path.stat

    def stat(path: Path, **given: bool) -> os.stat_result:
        if path == passing and passing.exists():
            passing.unlink()
        return real(path, **given)

    monkeypatch.setattr(Path, "exists", lambda path: os.path.exists(path))
    monkeypatch.setattr(Path, "is_file", lambda path: os.path.isfile(path))
    monkeypatch.setattr(Path, "stat", stat)
    assert [one.size for one in kept(tmp_path)] == [size]


def test_who_waits_for_a_result_that_is_deleted_computes_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = computed(tmp_path, "one", "stage", "a")
    waiting, oldest, found = threading.Event(), upkeep._oldest_user, list[bool]()

    def wait() -> None:
        waiting.set()
        with Cache(tmp_path).locked("stage", "a") as entry:
            found.append(entry.has("result.safetensors"))
            entry.save_json("again.json", 1)

    thread = threading.Thread(target=wait)

    def while_somebody_waits(root: Path) -> float:
        """The lock is held by now."""
        thread.start()
        waiting.wait()
        time.sleep(0.1)
        return oldest(root)

    monkeypatch.setattr(upkeep, "_oldest_user", while_somebody_waits)
    assert [one.folder for one in prune(tmp_path, kept(tmp_path))] == [folder]
    thread.join(10)
    assert found == [False] and Cache(tmp_path).entry("stage", "a").has("again.json")


def test_nothing_is_deleted_where_there_are_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = computed(tmp_path, "one", "stage", "a")

    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("no flock")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(UserError, match="nobody can tell"):
        prune(tmp_path, kept(tmp_path))
    assert folder.is_dir()


def test_recipes_are_compared_as_their_names_are_kept(tmp_path: Path) -> None:
    folder = computed(tmp_path, "my recipe/2", "stage", "a")
    assert [one.folder for one in chosen(kept(tmp_path), recipe="my recipe/2")] == [folder]
