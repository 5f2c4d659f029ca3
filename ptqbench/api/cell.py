"""A cell of a finished run as a quantized denoiser."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ptqbench.api.parts import Base, Parts
from ptqbench.api.quantize import report_of
from ptqbench.api.quantized import Quantized
from ptqbench.api.recipe import recorded_recipe
from ptqbench.api.settings import settings_for
from ptqbench.errors import UserError
from ptqbench.failures import blamed
from ptqbench.measuring.accounting import float_bytes
from ptqbench.recipe.describe import describe_method
from ptqbench.recipe.experiment import Cell, Experiment
from ptqbench.recipe.select import find_cell
from ptqbench.results.record import CellRecord, RunRecord
from ptqbench.running.cell import Calibrated, CellRun
from ptqbench.stage.arithmetic import arithmetic
from ptqbench.stage.context import RunContext
from ptqbench.stage.predictor import Predictor
from ptqbench.stage.stages import Tell

AGAIN = "computed again where last bits differ from the run's: its codes or grids are not the run's bit for bit"


@dataclass(frozen=True)
class OpenCell:
    """A quantized cell with the context of its run and the predictor, hooks and all, that its numbers come from. `as_run` is
    whether its codes and grids are the run's bit for bit, `seed` the one that it was calibrated with."""

    ctx: RunContext
    quantized: Quantized
    predictor: Predictor
    as_run: bool
    seed: int

    @property
    def notes(self) -> tuple[str, ...]:
        """What to say of numbers that are made from this cell."""
        return () if self.as_run else (AGAIN,)


def open_cell(
    run: RunRecord, experiment: Experiment | None, cell: str, cache: str | Path | None, device: str | None, tell: Tell
) -> OpenCell:
    """Raises as `Run.quantized`; without its `experiment` it is the one of the recipe in the record."""
    recorded = find_cell(run.cells, cell, "run")
    if recorded.status != "ok":
        raise UserError(f"{cell} failed in this run: {recorded.reason}", "name a cell that has numbers")
    experiment = experiment or recorded_recipe(run)
    chosen = find_cell(experiment.cells, cell, "run")
    if chosen.method is None:
        raise UserError(f"{cell} quantizes nothing", "name a cell of a method")
    if chosen.method.network is not None:
        raise UserError(f"{cell} was quantized by {chosen.method.network.name} as a whole", "export it with that library")
    _check_method(run, chosen)
    there = run.environment
    settings = settings_for(cache, device or str(there["device"]), 1, there["threads"])
    with arithmetic(settings.threads), blamed(cell):
        ctx = RunContext.of(experiment, settings)
        made = CellRun(ctx, chosen, tell).calibrated()
        as_run = made.state_hash == recorded.state_hash
        return OpenCell(ctx, _assembled(ctx, made, run, recorded), made.predictor, as_run, chosen.seed)


def _assembled(ctx: RunContext, made: Calibrated, run: RunRecord, recorded: CellRecord) -> Quantized:
    if made.made is None or made.ledger is None:
        raise ValueError("full precision is no quantized denoiser")
    model, method, ledger = ctx.model.denoiser, made.made.quantizer.method, made.ledger
    notes = []
    if made.state_hash != recorded.state_hash:
        notes.append(AGAIN)
    if method.hooks:
        names = ", ".join(hook.name for hook in method.hooks)
        notes.append(f"the sampler's hooks ({names}) are kept beside the denoiser, whose output they do not change")
    report = report_of(made.made.quantizer, made.made.denoiser, ledger, float_bytes(model), tuple(notes))
    cell = {"id": recorded.id, "state_hash": recorded.state_hash}
    origin = {"name": run.name, "digest": run.digest, "created": run.created, "cell": cell, "protocol": run.protocol}
    parts = Parts(
        Base.of(model), ctx.probe, ctx.schedule.timesteps, method.weights, method.activations, made.made.hooks, origin
    )
    return Quantized(made.made.denoiser, parts, ledger, report)


def _check_method(run: RunRecord, cell: Cell) -> None:
    """What the recipe's method resolves to must be what it was: presets and defaults may have changed."""
    then, now = run.methods.get(cell.row), cell.method and describe_method(cell.method)
    if json.dumps(then, sort_keys=True) != json.dumps(now, sort_keys=True):
        raise UserError(
            f"{cell.id} is another method in this version of the program or of a plugin than it was in the run",
            "run the recipe again, or use the versions that made the run",
        )
