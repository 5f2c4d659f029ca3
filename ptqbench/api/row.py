"""One row of a recipe, fitted and measured by one metric, under changes that no recipe can ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ptqbench.api.recipe import Recipe, load_recipe
from ptqbench.errors import CellFailedError, UserError
from ptqbench.recipe.experiment import Cell, Experiment
from ptqbench.recipe.toml_text import value_text

if TYPE_CHECKING:
    from ptqbench.stage.context import RunContext


@dataclass(frozen=True)
class Row:
    """A method's row at one setting of bits, and the only metric that is measured: an error, on the probes of each context."""

    method: str
    bits: str
    metric: str

    def experiment(self, recipe: Recipe, seeds: Sequence[int], overrides: Sequence[str], profile: str) -> Experiment:
        """The recipe with these calibration seeds and nothing else to measure. Raises `UserError` if it lacks the row."""
        words = [*overrides, f"evaluation.metrics={value_text([self.metric])}", f"sweep.seeds={value_text(list(seeds))}"]
        made = load_recipe(recipe, profile=profile, set=words)
        if self.method not in {cell.name for cell in made.cells if cell.method}:
            known = ", ".join(dict.fromkeys(cell.name for cell in made.cells if cell.method))
            raise UserError(f"the recipe has no method {self.method!r}", f"there are: {known}")
        self.cells(made)
        return made

    def cells(self, made: Experiment) -> list[Cell]:
        """The row's cells, one for each calibration seed."""
        found = [cell for cell in made.cells if cell.method and cell.name == self.method and cell.bits == self.bits]
        if not found:
            known = ", ".join(dict.fromkeys(cell.bits for cell in made.cells if cell.name == self.method))
            raise UserError(f"{self.method} has no cells at {self.bits}", f"there are: {known}")
        if len({cell.variant for cell in found}) > 1:
            raise UserError(f"{self.method} is swept over more than bits and seeds", "fix the other axes with --set")
        return found

    def measured(
        self, ctx: RunContext, cell: Cell, tell: Callable[[str], None], where: str, fit_seed: int | None = None
    ) -> float:
        """The metric of a cell, whose fits may draw as under another seed than the one that chose its samples.

        What goes on is told after the words of `where`. Raises `CellFailedError` where it is not one number of the row.
        """
        # Here, since whoever only asks for help does without torch.
        from ptqbench.measuring.measure import Measurement
        from ptqbench.running.cell import CellRun

        run = CellRun(ctx, cell, lambda what, _: tell(f"{where}: {what}"), fit_seed=fit_seed)
        made = run.calibrated()
        numbers = Measurement(ctx, cell, run.costs, made.predictor, made.state).numbers(lambda *_: None)
        if self.metric not in numbers:
            raise CellFailedError(f"{self.metric} is not a number of this row", f"there are: {', '.join(numbers)}")
        if numbers[self.metric].better != "lower":
            raise UserError(f"{self.metric} is better when it is higher", "choose an error, for example latent-error")
        return numbers[self.metric].value
