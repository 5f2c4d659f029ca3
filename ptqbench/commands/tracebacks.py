"""Tracebacks of cells that failed, as files beside a run's results."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import click

FOLDER = "errors"


def tell_failures(folder: Path, cells: Iterable[str], failed: Mapping[str, str], tracebacks: Mapping[str, str]) -> None:
    """Write `folder`/errors/<cell>.txt for each failed cell, and say on stderr why it failed and which file has the rest.

    `failed` has reasons, both have ids of `cells`. A cell that no longer fails loses the file of an earlier run.
    """
    for cell in cells:
        path = folder / FOLDER / _file_name(cell)
        if cell not in tracebacks:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(tracebacks[cell], encoding="utf-8")
        if cell in failed:
            reason = next(iter(failed[cell].splitlines()), "")
            where = f"; traceback: {path}" if cell in tracebacks else ""
            click.echo(f"{cell} failed: {reason}{where}", err=True)


def _file_name(cell: str) -> str:
    """The cell's id where every file system takes it: no variant is too long, and none shares a file with another."""
    plain = cell.replace("/", "-")
    name = re.sub(r"[^\w.=+-]+", "_", plain)[:100]
    return f"{name}.txt" if name == plain else f"{name}-{hashlib.sha256(cell.encode()).hexdigest()[:6]}.txt"
