"""A run's record on disk: amended by several at once, and whole whatever happens to the writer."""

from __future__ import annotations

import dataclasses
import stat
import threading
from pathlib import Path

import pytest
from gate_samples import cell, run

from ptqbench.api.record import RESULTS, amend, keep_record
from ptqbench.api.result import Run
from ptqbench.errors import UserError
from ptqbench.results.record import Number, RunRecord

CELL = cell("late", 0, {}, state_hash="a")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    keep_record(run([CELL]), tmp_path)
    return tmp_path


def share(name: str):
    return lambda kept: kept.sensitivity.update({name: Number(0.5, 0.4, 0.6, 4)})


def test_what_others_added_since_the_record_was_read_stays(folder: Path) -> None:
    runs = [Run(RunRecord.load(folder), folder) for _ in range(8)]
    threads = [threading.Thread(target=amend, args=(given, CELL.id, share(str(i)))) for i, given in enumerate(runs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (kept,) = RunRecord.load(folder).cells
    assert set(kept.sensitivity) == {str(i) for i in range(8)}
    assert [list(given.record.cells[0].sensitivity) for given in runs] == [[str(i)] for i in range(8)]


@pytest.mark.parametrize("write", [lambda f: amend(Run.load(f), CELL.id, share("a")), lambda f: keep_record(run([CELL]), f)])
def test_a_disk_that_fills_up_leaves_the_record_that_was_there(folder: Path, monkeypatch, write) -> None:
    before = (folder / RESULTS).read_text()

    def half(self: Path, text: str, **_: object) -> int:
        with self.open("w") as stream:
            stream.write(text[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="No space"):
        write(folder)
    assert (folder / RESULTS).read_text() == before
    assert [path.name for path in folder.glob("[!.]*")] == [RESULTS]


def test_nothing_is_added_to_another_runs_cell(folder: Path) -> None:
    given = Run.load(folder)
    keep_record(run([dataclasses.replace(CELL, state_hash="b")]), folder)
    with pytest.raises(UserError, match="written anew meanwhile"):
        amend(given, CELL.id, share("a"))
    assert RunRecord.load(folder).cells[0].sensitivity == {}


def test_a_record_has_the_rights_of_any_new_file(folder: Path) -> None:
    (folder / "other").touch()
    rights = [stat.S_IMODE((folder / name).stat().st_mode) for name in ("other", RESULTS)]
    assert rights[0] == rights[1]
