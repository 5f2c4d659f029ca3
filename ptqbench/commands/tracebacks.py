"""What is said of cells that failed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click


def tell_failures(failed: Mapping[str, str], tracebacks: Mapping[str, Path]) -> None:
    """Say on stderr why each cell failed, and which file has its traceback; both by the cell's id."""
    for cell, reason in failed.items():
        where = f"; traceback: {tracebacks[cell]}" if cell in tracebacks else ""
        click.echo(f"{cell} failed: {next(iter(reason.splitlines()), '')}{where}", err=True)
