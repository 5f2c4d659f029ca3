"""A cell of a finished run as files that leave."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ptqbench.api.cell import open_cell
from ptqbench.api.component import chosen_component
from ptqbench.api.files import require_folder
from ptqbench.api.quantized import Quantized
from ptqbench.api.recipe import Overrides
from ptqbench.api.result import Run
from ptqbench.boundary.build import build
from ptqbench.deployment.subject import deployable
from ptqbench.failures import blamed
from ptqbench.roles.exporter import Exporter
from ptqbench.stage.arithmetic import arithmetic
from ptqbench.stage.stages import Tell


@dataclass(frozen=True)
class Exported:
    """What was written to `folder`: the quantized denoiser, and what its exporter says of the files."""

    quantized: Quantized
    folder: Path
    notes: tuple[str, ...]


def export(
    run: Run | str | Path,
    cell: str,
    to: str | Path,
    *,
    format: str = "safetensors",
    set: Overrides = (),
    cache: str | Path | None = None,
    device: str | None = None,
    plugins: Sequence[str | Path] = (),
    progress: Tell = lambda *_: None,
) -> Exported:
    """Write a cell of a run, or of the folder of one, to the folder `to`. `format` names an exporter; "safetensors" is the
    folder that `ptqbench.load` reads. `set` has options of the exporter, `plugins` are single-file plugins to look in as well.

    Raises `UserError` as `Run.quantized` does, for a folder that nothing can be written to, for a format that is none, and for
    what the exporter refuses.
    """
    chosen = chosen_component("exporter", format, set, plugins)
    folder = Path(to)
    require_folder(folder, "--to")
    given = run if isinstance(run, Run) else Run.load(run)
    opened = open_cell(given.record, given.experiment, cell, cache or given.cache, device, progress)
    ctx, found = opened.ctx, opened.quantized
    with arithmetic(ctx.threads), blamed(f"the export of {cell}"):
        exporter: Exporter = build(chosen)
        subject = deployable(ctx, found.quantized, found.save, opened.seed)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            notes = exporter.write(subject, folder)
        except BaseException:
            with suppress(OSError):  # that it has files of before
                folder.rmdir()
            raise
    return Exported(found, folder, tuple(notes))
