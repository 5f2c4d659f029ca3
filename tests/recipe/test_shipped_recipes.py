"""Every recipe in the repository is correct with the first-party plugins."""

from __future__ import annotations

import tomllib
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


PROFILES = [(path, name) for path in RECIPES for name in tomllib.loads(path.read_text(encoding="utf-8")).get("profiles", {})]


@pytest.mark.parametrize(("path", "profile"), PROFILES, ids=lambda value: value if isinstance(value, str) else value.stem)
def test_its_profiles_load(path, profile):
    experiment = load_experiment(path, profile=profile, manager=PluginManager(block=""))
    assert experiment.name == f"{path.stem}-{profile}"
    assert len(experiment.cells) > 1


def test_recipes_of_large_models_can_be_tried_on_random_ones():
    small = {path.stem: profile for path, profile in PROFILES if profile.startswith("small")}
    assert small.keys() >= {"cifar10_ddpm", "lsun_bedrooms_ldm", "imagenet_ldm4", "imagenet_dit", "sd15_coco", "text_flows"}
