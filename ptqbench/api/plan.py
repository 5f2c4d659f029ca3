"""What a run would do, before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptqbench.api.recipe import Overrides, Recipe, load_recipe
from ptqbench.api.settings import settings_for
from ptqbench.api.tables import ledger_row, table
from ptqbench.errors import CellFailedError
from ptqbench.failures import blamed
from ptqbench.recipe.experiment import Cell, Experiment
from ptqbench.recipe.select import find_cell
from ptqbench.running.forecast import Forecast, cell_ledger, forecast
from ptqbench.running.preflight import preflight
from ptqbench.stage.arithmetic import arithmetic
from ptqbench.stage.context import RunContext, Settings


@dataclass(frozen=True)
class Outlook:
    """The cells of a recipe, the layers of one `cell` with the grids that they will have, and a forecast of time, memory and
    disk on this machine. `rows` is that cell's bit ledger without bytes."""

    experiment: Experiment
    settings: Settings
    cell: Cell
    rows: list[dict[str, Any]]
    forecast: Forecast

    def cells(self) -> Any:
        """A row for each cell with its forecast in seconds: a DataFrame where pandas is installed, else a list of dicts."""
        seconds = self.forecast.cells
        return table(
            {"cell": c.id, "method": c.name, "bits": c.bits, "variant": c.variant, "seed": c.seed, "seconds": seconds[c.id]}
            for c in self.experiment.cells
        )

    def ledger(self) -> Any:
        """A row for each layer, and each site of an attention, of `cell`."""
        return table(map(ledger_row, self.rows))


@blamed("the plan")
def plan(
    recipe: Recipe,
    *,
    profile: str = "",
    set: Overrides = (),
    only: tuple[str, ...] = (),
    cell: str | None = None,
    cache: str | Path | None = None,
    device: str = "auto",
) -> Outlook:
    """What `run` would do with a recipe. `cell` is the one whose layers are listed, the last one if left out.

    Raises `UserError` for a recipe that cannot run and for a cell that is not in it, `CellFailedError` where cells would fail.
    """
    experiment = load_recipe(recipe, profile=profile, set=set, only=only)
    chosen = experiment.cells[-1] if cell is None else find_cell(experiment.cells, cell, "recipe")
    settings = settings_for(cache, device)
    with arithmetic(settings.threads):
        ctx = RunContext.of(experiment, settings)
        found = preflight(ctx)
        found.require_shared()
        if found.cells:
            message = f"{len(found.cells)} of {len(experiment.cells)} cells would fail; `ptqbench run` computes the others"
            raise CellFailedError(message, "\n".join(found.lines()))
        return Outlook(experiment, settings, chosen, cell_ledger(ctx, chosen), forecast(ctx))
