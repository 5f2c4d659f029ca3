"""The recipes on the embedded model run, with budgets that say nothing about the methods."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from enginekit import TOY, experiment, installed, recipe

from ptqbench.recipe import keypath
from ptqbench.recipe.experiment import Cell
from ptqbench.recipe.load import load_experiment
from ptqbench.roles.executor import Task
from ptqbench.running.forecast import cell_ledger, forecast
from ptqbench.running.tasks import perform
from ptqbench.stage.cache import Cache
from ptqbench.stage.context import RunContext

RECIPES = Path(__file__).parents[2] / "recipes"
SMALL = (
    "sampling.steps=10",
    "sampling.images=2",
    "sampling.batch=2",
    "calibration.trajectories=8",
    "calibration.samples=30",
    "evaluation.metrics=['eps-error', 'psnr']",
    "evaluation.probes=2",
    "sweep.seeds=[0]",
)


def raw(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


EMBEDDED = [path.stem for path in sorted(RECIPES.glob("*.toml")) if raw(path)["model"]["use"].startswith("digits")]


def lengths(cell: Cell) -> dict[tuple[str, str], int]:
    """Optimiser steps and learned updates for each unit, wherever the recipe, its defaults or a preset says how many."""
    if cell.method is None:
        return {}
    parts = {"reconstruction": cell.method.reconstruction, "weighter": cell.method.weighter}
    options = {(role, key): n for role, part in parts.items() for key, n in part.options.model_dump().items()}
    return {path: n for path, n in options.items() if path[1].endswith(("iterations", "updates")) and n}


def single_iterations(cells: Sequence[Cell]) -> list[str]:
    """Every method with one optimiser step for each unit and phase."""
    return list({keypath.show(["methods", cell.name, *path]) + "=1": None for cell in cells for path in lengths(cell)})


def last_bits(sweep: dict[str, Any]) -> list[str]:
    """All methods at the last bits alone, also those that the recipe has at others only."""
    methods = [word.partition("/")[0] for word in sweep.get("only", [])]
    return [f"sweep.bits=['{sweep['bits'][-1]}']", *([f"sweep.only={methods}"] if methods else [])]


def test_the_embedded_recipes_are_found():
    assert {"gacq_vs_qdiff", "smoke", "all_methods", "paper_main"} <= set(EMBEDDED)


COMMON = ("first-last-8bit", "skip-split", "layer-bits")
"""Plan passes that go with any row."""


def components(cell: Cell) -> tuple[str, ...]:
    """What a row is made of, whatever the options: none of the full-precision row. Weighters of one plugin count as one."""
    parts = cell.method.components() if cell.method else ()
    return tuple(part.plugin if part.role == "weighter" else part.name for part in parts if part.name not in COMMON)


def presets() -> set[tuple[str, ...]]:
    """What presets are made of, of which each is a row in tests/plugins/test_presets.py."""
    data = recipe()
    data["methods"] = {preset.name: {"method": preset.name} for preset in installed().presets()}
    data["sampling"]["steps"] = 20  # as many as presets take samples from
    data["recipe"]["baseline"] = next(iter(data["methods"]))
    return {components(cell) for cell in experiment(raw=data).cells}


NEEDED = {"density-diversity": "embedded", "finite-set": "unet", "temporal-blocks": "unet"}
"""Networks that have what components look for: layers by their names, a time embedding."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Recipes have methods in common."""
    return Cache(tmp_path_factory.mktemp("shipped"))


@pytest.fixture(scope="module")
def seen() -> set[tuple[str, ...]]:
    """What rows that ran were made of."""
    return presets()


@cache
def budgets(name: str) -> tuple[str, ...]:
    """Overrides that cut the recipe's budgets short."""
    path = RECIPES / f"{name}.toml"
    small = (*SMALL, *last_bits(raw(path)["sweep"]))
    return (*small, *single_iterations(load_experiment(path, overrides=small).cells))


def opened(name: str, kept: Cache, toy: str = "") -> RunContext:
    """The recipe with budgets cut short; with `toy`, on that network of the toy model."""
    data = raw(RECIPES / f"{name}.toml")
    if toy:
        data["recipe"]["plugins"] = [str(TOY)]
        data["sampling"].pop("guidance", None)
        data["model"], data["evaluation"]["features"] = {"use": "toy", "network": toy}, "toy"
    source = data if toy else RECIPES / f"{name}.toml"
    return RunContext(load_experiment(source, overrides=budgets(name)), kept, torch.device("cpu"))


def ran(ctx: RunContext, i: int) -> None:
    cell = ctx.experiment.cells[i]
    record = perform(ctx, Task("cell", i, cell.seed, cell.id), lambda *_: None)
    if cell.method is not None and cell.method.network is not None and record["status"] == "failed":
        # A library that is not installed costs its row one sentence.
        assert f"ptqbench[{cell.method.network.name}]" in record["reason"], cell.id
        return
    assert (record["status"], record["reason"]) == ("ok", ""), cell.id


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_recipe_on_the_embedded_model_is_planned_and_runs(name, shared, seen):
    """All of it is planned on the embedded model, where one row runs; the others run on the toy model."""
    ctx = opened(name, shared)
    cells, model = ctx.experiment.cells, ctx.experiment.model.name
    assert {n for cell in cells for n in lengths(cell).values()} <= {1}
    assert len(cell_ledger(ctx, cells[-1])) == len(ctx.probe.layers) + 4 * len(ctx.probe.attentions)
    assert set(forecast(ctx).cells) == {cell.id for cell in cells}
    if (model,) not in seen:
        # Fits on "digits" are what the baseline of recipes/smoke.toml holds: here it has the recipe's first row.
        row = cells[1].name if model == "digits" else raw(RECIPES / f"{name}.toml")["recipe"]["baseline"]
        ran(ctx, next(i for i, cell in enumerate(cells) if cell.name == row))
    # Rows that differ in options alone, or that another recipe has, are run once.
    new = {components(cell): i for i, cell in reversed(list(enumerate(cells))) if components(cell) not in seen}
    networks = {"embedded": ctx}
    for made, i in new.items():
        network = next((network for part, network in NEEDED.items() if part in made), "plain")
        ran(networks.get(network) or networks.setdefault(network, opened(name, shared, network)), i)
    seen.update({*new, (model,)})
