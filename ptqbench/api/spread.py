"""Fitting one row of a recipe with one thing changed at a time, to see where its spread over calibration seeds comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ptqbench.api.recipe import Recipe
from ptqbench.api.row import Row
from ptqbench.errors import UserError
from ptqbench.studies.spread import LAST_BITS, MINI_BATCHES, SAMPLES, SEEDS, Arm, Sources

if TYPE_CHECKING:
    from ptqbench.stage.context import RunContext, Settings


def find_sources(
    recipe: Recipe,
    row: Row,
    *,
    seeds: Sequence[int],
    settings: Settings,
    overrides: Sequence[str] = (),
    profile: str = "",
    tell: Callable[[str], None] = lambda _: None,
) -> Sources:
    """A fit under the first seed, and under each other one with other last bits, mini-batches, calibration set, and all of it.

    Takes 1 + 4 x (seeds - 1) fits of the row. Raises `UserError` for fewer than three seeds, or seeds that are equal.
    """
    from ptqbench.stage.context import RunContext

    if len(seeds) < 3 or len(set(seeds)) < len(seeds):
        raise UserError("a spread takes at least three different seeds", "for example --seed 100 --seed 101 --seed 102")
    made = row.experiment(recipe, seeds, overrides, profile)
    whole = made.calibration.batch
    if whole < len(seeds):
        raise UserError(f"calibration.batch = {whole} leaves no {len(seeds)} ways to cut batches", "raise it with --set")
    ctx, first, others = RunContext.of(made, settings), seeds[0], seeds[1:]
    cells = {cell.seed: cell for cell in row.cells(made)}

    def error(change: str, i: int, *, drawn: int = first, fitted: int = first, ctx: RunContext = ctx) -> float:
        return row.measured(ctx, cells[drawn], tell, f"{change} {i}/{len(others)}", fitted)

    def cut_otherwise(i: int) -> RunContext:
        return RunContext.of(replace(made, calibration=replace(made.calibration, batch=whole - i)), settings)

    plain = error("unchanged", 0)
    found = {
        LAST_BITS: [error(LAST_BITS, i, ctx=cut_otherwise(i)) for i, _ in enumerate(others, 1)],
        MINI_BATCHES: [error(MINI_BATCHES, i, fitted=seed) for i, seed in enumerate(others, 1)],
        SAMPLES: [error(SAMPLES, i, drawn=seed) for i, seed in enumerate(others, 1)],
        SEEDS: [error(SEEDS, i, drawn=seed, fitted=seed) for i, seed in enumerate(others, 1)],
    }
    return Sources(row.method, row.bits, row.metric, [Arm(change, [plain, *values]) for change, values in found.items()])
