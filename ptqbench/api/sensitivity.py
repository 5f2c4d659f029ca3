"""Which layers of a cell of a finished run cost most; becomes part of its record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ptqbench.api.cell import open_cell
from ptqbench.api.record import amend
from ptqbench.api.result import Run
from ptqbench.errors import UserError
from ptqbench.failures import blamed
from ptqbench.measuring.restored import restored_sites
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
    note: Callable[[str], object] = lambda _: None,
) -> dict[str, Number]:
    """The share of a cell's latent-error that goes when one layer or attention is back in full precision, by its name, the
    largest first (`ptqbench.measuring.restored`). The run's record keeps them, and is written where the run has a folder.
    `note` is told where what is looked at is not the run's bit for bit.

    Raises `UserError` as `Run.quantized` does, and for more `trajectories` than the recipe holds out.
    """
    given = run if isinstance(run, Run) else Run.load(run)
    opened = open_cell(given.record, given.experiment, cell, cache or given.cache, device, progress)
    ctx, held_out = opened.ctx, opened.ctx.experiment.evaluation.probes
    if trajectories > held_out:
        raise UserError(
            f"{trajectories} trajectories of the {held_out} that the recipe holds out cannot be", "give fewer --trajectories"
        )
    for said in opened.notes:
        note(said)
    with arithmetic(ctx.threads), blamed(f"the sensitivity of {cell}"):
        found = restored_sites(ctx, opened.quantized.quantized, opened.predictor, trajectories, progress)
    amend(given, cell, lambda kept: setattr(kept, "sensitivity", found))
    return found
