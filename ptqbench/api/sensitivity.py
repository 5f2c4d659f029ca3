"""Which layers of a cell of a finished run cost most; becomes part of its record."""

from __future__ import annotations

from pathlib import Path

from ptqbench.api.cell import open_cell
from ptqbench.api.result import Run
from ptqbench.api.run import RESULTS
from ptqbench.errors import UserError
from ptqbench.failures import blamed
from ptqbench.measuring.restored import restored_sites
from ptqbench.recipe.select import find_cell
from ptqbench.results.record import Number
from ptqbench.stage.arithmetic import arithmetic
from ptqbench.stage.stages import Tell

TRAJECTORIES = 16


def sensitivity(
    run: Run | str | Path,
    cell: str,
    *,
    trajectories: int = TRAJECTORIES,
    cache: str | Path | None = None,
    device: str | None = None,
    progress: Tell = lambda *_: None,
) -> dict[str, Number]:
    """The share of a cell's latent-error that goes when one layer or attention is back in full precision, by its name, the
    largest first (`ptqbench.measuring.restored`). The run's record keeps them, and is written where the run has a folder.

    Raises `UserError` as `Run.quantized` does, and for more `trajectories` than the recipe holds out.
    """
    given = run if isinstance(run, Run) else Run.load(run)
    opened = open_cell(given.record, given.experiment, cell, cache or given.cache, device, progress)
    ctx, held_out = opened.ctx, opened.ctx.experiment.evaluation.probes
    if trajectories > held_out:
        raise UserError(
            f"{trajectories} trajectories of the {held_out} that the recipe holds out cannot be", "give fewer --trajectories"
        )
    with arithmetic(ctx.threads), blamed(f"the sensitivity of {cell}"):
        found = restored_sites(ctx, opened.quantized.quantized, opened.predictor, trajectories, progress)
    find_cell(given.record.cells, cell, "run").sensitivity = found
    if given.folder is not None:
        path = given.folder / RESULTS if given.folder.is_dir() else given.folder
        path.write_text(given.record.to_json(), encoding="utf-8")
    return found
