"""The record of a run on disk: written whole, and changed by one process after the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ptqbench.api.result import Run
from ptqbench.errors import UserError
from ptqbench.files import atomic, locked
from ptqbench.recipe.select import find_cell
from ptqbench.results.record import RESULTS, CellRecord, RunRecord, record_path


def keep_record(record: RunRecord, folder: Path) -> None:
    """Write a record to a folder in place of the one that is there."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(_lock(folder / RESULTS)):
        _replace(folder / RESULTS, record)


def amend(run: Run, cell: str, change: Callable[[CellRecord], object]) -> None:
    """Change a cell of a run, and of its record where it has a folder: as that is by now, which others may have amended.

    Raises `UserError` where another run was written there meanwhile, in which this cell is not what it was.
    """
    ours = find_cell(run.record.cells, cell, "run")
    change(ours)
    if run.folder is None:
        return
    path = record_path(run.folder)
    with locked(_lock(path)):
        record = RunRecord.load(path)
        theirs = next((found for found in record.cells if found.id == cell), None)
        if theirs is None or theirs.state_hash != ours.state_hash:
            raise UserError(
                f"{path} was written anew meanwhile, and {cell} is not what it was: nothing was added",
                "give the same command again",
            )
        change(theirs)
        _replace(path, record)


def _lock(path: Path) -> Path:
    return path.parent / f".{path.name}.lock"


def _replace(path: Path, record: RunRecord) -> None:
    with atomic(path) as temporary:
        temporary.write_text(record.to_json(), encoding="utf-8")
