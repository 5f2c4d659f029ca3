"""Every recipe in the repository is correct with the first-party plugins."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptqbench.plugin.manager import PluginManager
from ptqbench.recipe.load import load_experiment

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


def test_there_are_recipes():
    assert RECIPES


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_loads(path):
    warnings: list[str] = []
    experiment = load_experiment(path, manager=PluginManager(block="", warn=warnings.append))
    assert warnings == []
    assert experiment.name == path.stem
    assert len(experiment.cells) > 1
