"""A cell of a finished run as files that leave."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from ptqbench.api.files import require_folder
from ptqbench.api.formats import FORMATS
from ptqbench.api.quantized import Quantized
from ptqbench.api.result import Run
from ptqbench.errors import UserError
from ptqbench.plugin.names import suggest
from ptqbench.stage.stages import Tell


def export(
    run: Run | str | Path,
    cell: str,
    to: str | Path,
    *,
    format: str = "safetensors",
    cache: str | Path | None = None,
    device: str | None = None,
    progress: Tell = lambda *_: None,
) -> Quantized:
    """Write a cell of a run, or of the folder of one, to the folder `to`; returns what was written.

    "safetensors" is the folder that `ptqbench.load` reads. Raises `UserError` as `Run.quantized` does, for a folder that
    nothing can be written to, and for a format that is none.
    """
    if format not in FORMATS:
        raise UserError(f"there is no format {format!r}", suggest(format, FORMATS, "formats"))
    require_folder(Path(to), "--to")
    chosen = run if isinstance(run, Run) else Run.load(run)
    found = chosen.quantized(cell, cache=cache, device=device, progress=progress)
    module, _, name = FORMATS[format].partition(":")
    write: Any = importlib.import_module(module)
    for attribute in name.split("."):
        write = getattr(write, attribute)
    write(found, Path(to))
    return found
