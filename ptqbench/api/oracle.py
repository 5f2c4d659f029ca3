"""Fitting one row of a recipe under given weights for groups of sampling steps, and searching for the best."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ptqbench.api.recipe import Recipe, load_recipe
from ptqbench.errors import CellFailedError, UserError
from ptqbench.recipe.experiment import Cell, Experiment
from ptqbench.recipe.toml_text import value_text
from ptqbench.studies.oracle import Verdict, Weights, search

if TYPE_CHECKING:
    from ptqbench.stage.context import RunContext, Settings

OTHER_PROBES = 1
"""What is added to the recipe's sampling seed for probes that the search does not see."""


@dataclass(frozen=True)
class Row:
    """A method row at one setting of bits, as the search fits it; `metric` is measured on the probes of each context."""

    method: str
    bits: str
    metric: str
    groups: int

    def experiment(
        self, recipe: Recipe, seeds: Sequence[int], overrides: Sequence[str], profile: str, *, other_probes: bool
    ) -> Experiment:
        """The recipe with the row under the weighter `step-weights`, these calibration seeds, and nothing else to measure."""
        plain = load_recipe(recipe, profile=profile, set=overrides)
        if self.method not in {cell.name for cell in plain.cells if cell.method}:
            known = ", ".join(dict.fromkeys(cell.name for cell in plain.cells if cell.method))
            raise UserError(f"the recipe has no method {self.method!r}", f"there are: {known}")
        words = [
            *overrides,
            f"methods.{self.method}.weighter={value_text({'use': 'step-weights', 'weights': [1.0] * self.groups})}",
            f"evaluation.metrics={value_text([self.metric])}",
            f"sweep.seeds={value_text(list(seeds))}",
            *([f"sampling.seed={plain.sampling.seed + OTHER_PROBES}"] if other_probes else []),
        ]
        return load_recipe(recipe, profile=profile, set=words)

    def error(self, ctx: RunContext, weights: Weights, tell: Callable[[str], None]) -> list[float]:
        """The metric by calibration seed. Raises `CellFailedError` where it is not one number of the row."""
        return [self._measured(ctx, cell, weights, tell) for cell in self._cells(ctx.experiment)]

    def _cells(self, made: Experiment) -> list[Cell]:
        found = [cell for cell in made.cells if cell.method and cell.name == self.method and cell.bits == self.bits]
        if not found:
            known = ", ".join(dict.fromkeys(cell.bits for cell in made.cells if cell.name == self.method))
            raise UserError(f"{self.method} has no cells at {self.bits}", f"there are: {known}")
        if len({cell.variant for cell in found}) > 1:
            raise UserError(f"{self.method} is swept over more than bits and seeds", "fix the other axes with --set")
        return found

    def _measured(self, ctx: RunContext, cell: Cell, weights: Weights, tell: Callable[[str], None]) -> float:
        # Here, since whoever only asks for help does without torch.
        from ptqbench.measuring.measure import Measurement
        from ptqbench.running.cell import CellRun

        assert cell.method is not None
        bound = cell.method.weighter
        chosen = replace(bound, options=type(bound.options).model_validate({"weights": weights}))
        own = replace(cell, method=replace(cell.method, weighter=chosen))
        run = CellRun(ctx, own, lambda what, _: tell(f"seed {cell.seed}: {what}"))
        made = run.calibrated()
        numbers = Measurement(ctx, own, run.costs, made.predictor, made.state).numbers(lambda *_: None)
        if self.metric not in numbers:
            raise CellFailedError(f"{self.metric} is not a number of this row", f"there are: {', '.join(numbers)}")
        if numbers[self.metric].better != "lower":
            raise UserError(f"{self.metric} is better when it is higher", "choose an error, for example latent-error")
        return numbers[self.metric].value


def find_oracle(
    recipe: Recipe,
    row: Row,
    *,
    fits: int,
    tuning: Sequence[int],
    held_out: Sequence[int],
    settings: Settings,
    overrides: Sequence[str] = (),
    profile: str = "",
    tell: Callable[[str], None] = lambda _: None,
) -> Verdict:
    """Search on the tuning seeds; then equal weights and the best ones on other seeds and other probes.

    Takes `fits` x tuning seeds + 2 x held-out seeds fits of the row. Raises `UserError` if a seed is in both lists.
    """
    from ptqbench.stage.context import RunContext

    if both := set(tuning) & set(held_out):
        raise UserError(f"seed {min(both)} is both for tuning and held out", "give other seeds")
    made = row.experiment(recipe, tuning, overrides, profile, other_probes=False)
    others = row.experiment(recipe, held_out, overrides, profile, other_probes=True)
    if row.groups > made.sampling.steps:
        raise UserError(f"{row.groups} groups of {made.sampling.steps} sampling steps cannot be", "give fewer --groups")
    ctx = RunContext.of(made, settings)
    count = 0

    def error(weights: Weights) -> float:
        nonlocal count
        count += 1
        return statistics.fmean(row.error(ctx, weights, lambda what: tell(f"trial {count}/{fits}, {what}")))

    trials = search(error, row.groups, fits)
    best = min(trials, key=lambda trial: trial.error).weights
    fresh = RunContext.of(others, settings)
    equal, found = (row.error(fresh, weights, lambda what: tell(f"held out, {what}")) for weights in (trials[0].weights, best))
    return Verdict(row.method, row.bits, row.metric, trials, equal, found)
