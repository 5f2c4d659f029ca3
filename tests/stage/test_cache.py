"""The store of stage results: atomic, locked, accounted for, and refusing damaged files."""

from __future__ import annotations

import errno
import multiprocessing
import os
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from ptqbench.errors import UserError
from ptqbench.files import atomic
from ptqbench.stage.cache import Cache, Costs, Entry, cached_tensors, content_key
from ptqbench.stage.counting import count_denoiser


def test_keys_are_functions_of_content_alone():
    assert content_key({"a": 1, "b": [2.0]}) == content_key({"b": [2.0], "a": 1})
    assert len({content_key(*p) for p in [("a", "b"), ("b", "a"), ("ab",), (["a", "b"],), (1,), (1.0,), (True,)]}) == 7
    with pytest.raises(TypeError):
        content_key(torch.ones(1))


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with atomic(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    with pytest.raises(KeyboardInterrupt), atomic(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "whole"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_tensors_and_data_come_back_as_they_were(tmp_path):
    entry = Entry(tmp_path / "e")
    tensors = {"a": torch.arange(6).reshape(2, 3).T, "b": torch.ones(2, requires_grad=True), "empty": torch.empty(0, 3)}
    entry.save_tensors("t.safetensors", tensors)
    loaded = entry.load_tensors("t.safetensors")
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    entry.save_json("d.json", {"x": [1, None, 0.1]})
    assert entry.load_json("d.json") == {"x": [1, None, 0.1]}
    assert entry.has("d.json")
    assert not entry.has("other.json")


def test_who_may_read_a_new_file_may_read_a_result(tmp_path):
    """A cache may belong to a group, whose members set their umask so."""
    before = os.umask(0o027)
    try:
        Entry(tmp_path / "e").save_tensors("t.safetensors", {"a": torch.ones(2)})
    finally:
        os.umask(before)
    assert (tmp_path / "e" / "t.safetensors").stat().st_mode & 0o777 == 0o640


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def compute(cache: Cache, make, costs: Costs | None = None) -> dict[str, torch.Tensor]:
    return cached_tensors(cache, costs or Costs(), "stage", "key", make)


def test_a_result_is_computed_once(cache):
    costs = Costs()
    assert compute(cache, lambda _: {"a": torch.ones(2)})["a"].tolist() == [1, 1]
    assert compute(cache, lambda _: pytest.fail("computed again"), costs)["a"].tolist() == [1, 1]
    assert costs.stages["stage"].cached


def test_an_error_leaves_no_result_and_parts_that_were_kept(cache):
    def broken(entry: Entry):
        entry.save_tensors("part.safetensors", {"p": torch.ones(1)})
        raise RuntimeError("oh")

    with pytest.raises(RuntimeError, match="oh"):
        compute(cache, broken)
    entry = cache.entry("stage", "key")
    assert not entry.has("result.safetensors")
    assert compute(cache, lambda e: e.load_tensors("part.safetensors")).keys() == {"p"}


def test_costs_of_an_interrupted_attempt_are_added(cache):
    def slow(entry: Entry):
        time.sleep(0.05)
        if not entry.has("part.json"):
            entry.save_json("part.json", 1)
            raise KeyboardInterrupt
        return {"a": torch.ones(1)}

    with pytest.raises(KeyboardInterrupt):
        compute(cache, slow)
    costs, read = Costs(), Costs()
    compute(cache, slow, costs)
    compute(cache, slow, read)
    whole = costs.stages["stage"]
    assert 0.1 <= whole.seconds < 1
    assert not whole.cached
    assert read.stages["stage"].seconds == whole.seconds
    assert whole.peak_mib > 10


def test_costs_of_a_stage_in_parts_are_summed(cache):
    costs = Costs()
    for key in "ab":
        cached_tensors(cache, costs, "stage", key, lambda _: {"a": torch.ones(1)})
    parts = [cache.entry("stage", key).load_json("cost.json")["seconds"] for key in "ab"]
    assert costs.stages["stage"].seconds == pytest.approx(sum(parts))


def flipped(data: bytes) -> bytes:
    """A bit of the last byte is another."""
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("damage", [flipped, lambda data: data[:-9], lambda _: b""], ids=["a bit", "cut short", "empty"])
def test_a_damaged_result_is_computed_again(cache, damage):
    compute(cache, lambda _: {"a": torch.ones(100)})
    path = cache.entry("stage", "key").path / "result.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    assert compute(cache, lambda _: {"a": torch.zeros(1)})["a"].tolist() == [0]
    assert compute(cache, lambda _: pytest.fail("computed again"))["a"].tolist() == [0]


def test_a_damaged_result_without_a_checksum_is_refused_with_the_folder_to_delete(cache):
    """As results were kept once."""
    compute(cache, lambda _: {"a": torch.ones(100)})
    entry = cache.entry("stage", "key")
    for sums in entry.path.glob(".sums-*"):
        sums.unlink()
    (entry.path / "result.safetensors").write_bytes(b"{")
    with pytest.raises(UserError, match="cannot be read") as caught:
        compute(cache, lambda _: pytest.fail("computed again"))
    assert str(entry.path) in caught.value.hint


def test_damaged_and_missing_records_are_refused(tmp_path):
    entry = Entry(tmp_path)
    (tmp_path / "record.json").write_text('{"half')
    for name in ("record.json", "missing.json", "missing.safetensors"):
        with pytest.raises(UserError, match="cannot be read"):
            entry.load_json(name) if name.endswith("json") else entry.load_tensors(name)


def compute_and_count(root: Path) -> None:
    """In a process of its own: one line in a file for each time the stage is computed."""

    def make(_: Entry) -> dict[str, torch.Tensor]:
        with (root / "counter").open("a") as counter:
            counter.write("computed\n")
        time.sleep(0.3)
        return {"a": torch.ones(1)}

    (root / f"ready-{multiprocessing.current_process().name}").touch()
    deadline = time.monotonic() + 60
    while len(list(root.glob("ready-*"))) < 2:
        assert time.monotonic() < deadline, "the other process never started"
        time.sleep(0.01)
    assert compute(Cache(root / "cache"), make)["a"].tolist() == [1]


def test_two_processes_that_want_one_result_compute_it_once(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    other = spawn.Process(target=compute_and_count, args=(tmp_path,), name="other")
    other.start()
    compute_and_count(tmp_path)
    other.join(60)
    assert other.exitcode == 0
    assert (tmp_path / "counter").read_text() == "computed\n"


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "no locks"), NotImplementedError("no flock")])
def test_a_file_system_without_locks_costs_no_result(cache, monkeypatch, error):
    """Two processes may then compute the same; what either leaves is whole."""

    def refuse(_):
        raise error

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with cache.locked("stage", "key") as first, cache.locked("stage", "key") as second:
        first.save_json("a.json", 1)
        second.save_json("a.json", 1)
    assert cache.entry("stage", "key").load_json("a.json") == 1


def test_a_file_that_another_process_replaced_is_no_damaged_one(cache):
    """Where locks do not hold, the file may be of one process while the checksum that was noted last is of another."""
    entry = cache.entry("stage", "key")
    entry.save_json("a.json", 1)
    earlier = (entry.path / "a.json").read_bytes()
    entry.save_json("a.json", 2)
    (entry.path / "a.json").write_bytes(earlier)
    assert entry.has("a.json") and entry.load_json("a.json") == 1


def test_asking_for_a_damaged_file_deletes_nothing(cache):
    entry = cache.entry("stage", "key")
    entry.save_json("a.json", 1)
    (entry.path / "a.json").write_text("2")
    assert not entry.has("a.json") and (entry.path / "a.json").exists()
    entry.save_json("a.json", 1)
    assert entry.has("a.json")


@pytest.mark.parametrize("note", ["[]", "3", "{", "{}", '{"secondz": 9.0, "peak_mib": 1.0}', '{"seconds": "much"}'])
def test_a_malformed_note_of_costs_is_none(cache, note):
    compute(cache, lambda _: {"a": torch.ones(1)})
    (cache.entry("stage", "key").path / "cost.json").write_text(note)
    costs = Costs()
    compute(cache, lambda _: pytest.fail("computed again"), costs)
    assert costs.stages["stage"].seconds == 0 and costs.evaluations() == {}


def test_a_note_of_costs_with_another_digit_is_none(cache):
    def make(_: Entry):
        count_denoiser(1234)
        return {"a": torch.ones(1)}

    compute(cache, make)
    path, costs, after = cache.entry("stage", "key").path / "cost.json", Costs(), Costs()
    compute(cache, make, costs)
    path.write_text(path.read_text().replace("1234", "9234"))
    compute(cache, make, after)
    assert costs.evaluations()["stage"].denoiser == 1234 and after.evaluations() == {}
