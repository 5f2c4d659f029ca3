"""Tracebacks of cells that failed, as files beside a run's results."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

FOLDER = "errors"


def write_tracebacks(folder: Path, cells: Iterable[str], tracebacks: Mapping[str, str]) -> dict[str, Path]:
    """Write `folder`/errors/<cell>.txt for each cell that has a traceback; returns the files by the cell's id.

    A cell of `cells` that no longer has one loses the file of an earlier run.
    """
    written = {}
    for cell in cells:
        path = folder / FOLDER / _file_name(cell)
        if cell not in tracebacks:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(tracebacks[cell], encoding="utf-8")
            written[cell] = path
    return written


def _file_name(cell: str) -> str:
    """The cell's id where every file system takes it: no variant is too long, and none shares a file with another."""
    plain = cell.replace("/", "-")
    name = re.sub(r"[^\w.=+-]+", "_", plain)[:100]
    return f"{name}.txt" if name == plain else f"{name}-{hashlib.sha256(cell.encode()).hexdigest()[:6]}.txt"
