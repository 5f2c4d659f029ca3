"""Fitting one row of a recipe under given weights for groups of sampling steps, and searching for the best."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ptqbench.api.recipe import Recipe
from ptqbench.api.row import Row
from ptqbench.errors import UserError
from ptqbench.recipe.experiment import Cell
from ptqbench.recipe.toml_text import value_text
from ptqbench.studies.oracle import Verdict, Weights, search

if TYPE_CHECKING:
    from ptqbench.stage.context import RunContext, Settings

OTHER_PROBES = 1
"""What is added to the recipe's sampling seed for probes that the search does not see."""


def find_oracle(
    recipe: Recipe,
    row: Row,
    *,
    groups: int,
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
    plain = row.experiment(recipe, tuning, overrides, profile)
    if groups > plain.sampling.steps:
        raise UserError(f"{groups} groups of {plain.sampling.steps} sampling steps cannot be", "give fewer --groups")
    weighter = value_text({"use": "step-weights", "weights": [1.0] * groups})
    words = [*overrides, f"methods.{row.method}.weighter={weighter}"]
    made = row.experiment(recipe, tuning, words, profile)
    elsewhere = [*words, f"sampling.seed={plain.sampling.seed + OTHER_PROBES}"]
    others = row.experiment(recipe, held_out, elsewhere, profile)
    ctx = RunContext.of(made, settings)
    count = 0

    def error(weights: Weights) -> float:
        nonlocal count
        count += 1
        return statistics.fmean(_errors(row, ctx, weights, tell, f"trial {count}/{fits}"))

    trials = search(error, groups, fits)
    best = min(trials, key=lambda trial: trial.error).weights
    fresh = RunContext.of(others, settings)
    equal, found = (_errors(row, fresh, weights, tell, "held out") for weights in (trials[0].weights, best))
    return Verdict(row.method, row.bits, row.metric, trials, equal, found)


def _errors(row: Row, ctx: RunContext, weights: Weights, tell: Callable[[str], None], where: str) -> list[float]:
    """The metric by calibration seed."""

    def weighted(cell: Cell) -> Cell:
        assert cell.method is not None
        bound = cell.method.weighter
        options = type(bound.options).model_validate({"weights": weights})
        return replace(cell, method=replace(cell.method, weighter=replace(bound, options=options)))

    return [row.measured(ctx, weighted(cell), tell, f"{where}, seed {cell.seed}") for cell in row.cells(ctx.experiment)]
