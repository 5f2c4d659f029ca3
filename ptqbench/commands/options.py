"""Arguments and options that several commands share."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import click

from ptqbench.commands.files import require_folder
from ptqbench.errors import UserError
from ptqbench.plugin.names import suggest

if TYPE_CHECKING:
    from ptqbench.stage.context import Settings


class HasId(Protocol):
    """A cell of a recipe or of a record."""

    @property
    def id(self) -> str: ...


C = TypeVar("C", bound=HasId)


def find_cell(cells: Sequence[C], wanted: str, where: str) -> C:
    """The cell with this id. Raises `UserError` with the nearest id for any other; `where` is "recipe" or "run"."""
    for cell in cells:
        if cell.id == wanted:
            return cell
    raise UserError(f'no cell "{wanted}" in this {where}', suggest(wanted, (cell.id for cell in cells), "cells"))


def default_cache() -> Path:
    """PTQBENCH_CACHE, or the user's cache folder; a user without a home, as in some containers, has one for temporary files."""
    if named := os.environ.get("PTQBENCH_CACHE"):
        return Path(named)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "ptqbench"
    try:
        return Path.home() / ".cache" / "ptqbench"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"ptqbench-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"


experiment_argument = click.argument("recipe", type=click.Path(path_type=Path))
override_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Change a value of the recipe; may be repeated."
)
cache_option = click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default=default_cache,
    help="Where finished stages are kept.  [default: $PTQBENCH_CACHE, or ptqbench in the user's cache folder]",
)
only_option = click.option(
    "--only", multiple=True, metavar="CELL", help='Only this cell, or "gacq/W4A8" for all its seeds; may be repeated.'
)
device_option = click.option("--device", default="auto", show_default=True, help='"cpu", "cuda", "mps" ..., or "auto".')
workers_option = click.option(
    "--workers", type=click.IntRange(1), help="Processes.  [default: one per core on a CPU, one on an accelerator]"
)
threads_option = click.option(
    "--threads", type=click.IntRange(1), help="Threads of each process.  [default: 1 on a CPU: numbers depend on it]"
)


def only_override(only: Sequence[str]) -> tuple[str, ...]:
    """`--only` as an override: as part of the recipe's data the choice reaches worker processes, digest and record."""
    return (f"sweep.only={json.dumps(only)}",) if only else ()


def settings_for(cache: Path, device: str, workers: int | None = None, threads: int | None = None) -> Settings:
    """Where and how to compute; what is not given is chosen to fit the device.

    Raises `UserError` for a device that is not there, and for a cache that nothing can be written to.
    """
    from ptqbench.running.executor import default_threads, default_workers
    from ptqbench.stage.context import Settings, pick_device

    require_folder(cache, "--cache")
    chosen = pick_device(device)
    workers = workers or default_workers(chosen)
    return Settings(cache, str(chosen), workers, threads or default_threads(chosen, workers))
