"""Reading a recipe in Python. No torch: a mistake in it is told at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ptqbench.errors import UserError
from ptqbench.plugin.manager import PluginManager
from ptqbench.recipe.experiment import Experiment
from ptqbench.recipe.load import load_experiment
from ptqbench.recipe.toml_text import value_text
from ptqbench.results.record import RunRecord

Recipe = str | Path | Mapping[str, Any] | Experiment
"""A recipe's file, its data as TOML gives it, or what `load_recipe` made of either."""

Overrides = Mapping[str, Any] | Sequence[str]
"""Values of a recipe by key path, {"sweep.seeds": [0]}, or in the words of `--set`, ["sweep.seeds=[0]"]."""


def load_recipe(
    recipe: Recipe,
    *,
    profile: str = "",
    set: Overrides = (),
    only: Sequence[str] = (),
    manager: PluginManager | None = None,
) -> Experiment:
    """A recipe checked and expanded to its cells: in one of its profiles, with values changed, and by `only` some cells of all.

    Raises `RecipeError` with everything that is wrong in it, or `RecipePluginError` if plugins are all that is.
    """
    if isinstance(recipe, Experiment):
        if profile or set or only:
            raise UserError("a loaded recipe cannot be changed", "give profile, set and only to load_recipe")
        return recipe
    # As part of the recipe's data the choice of cells reaches worker processes, digest and record.
    words = words_of(set) + ([f"sweep.only={json.dumps(only)}"] if only else [])
    made = load_experiment(recipe, profile=profile, overrides=words, manager=manager)
    return replace(made, profile=profile, overrides=tuple(words))


def recorded_recipe(record: RunRecord, *overrides: str) -> Experiment:
    """The experiment that a record is of. Files that its recipe names are looked for where the recipe was.

    Raises `UserError` for a record without its recipe, and where the recipe cannot be run any more: a plugin file is gone, say.
    """
    recipe = Path(record.invocation[0]) if record.invocation else Path(f"{record.name}.toml")
    if "methods" not in record.recipe:
        raise UserError(f"the record of {recipe} lacks the recipe, which is needed to run cells again", "run the recipe again")
    return load_experiment(record.recipe, folder=recipe.parent, overrides=overrides)


def words_of(overrides: Overrides) -> list[str]:
    """Overrides in the words of `--set`. Raises `UserError` for values that no recipe can have."""
    if not isinstance(overrides, Mapping):
        return list(overrides)
    try:
        return [f"{key}={value_text(value)}" for key, value in overrides.items()]
    except TypeError as error:
        raise UserError(
            f"a value of set cannot be in a recipe: {error}", "numbers, strings, booleans, lists and dicts can"
        ) from error
