"""A component that a command asks for by name, and not a recipe: an exporter, an engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ptqbench.api.recipe import Overrides, words_of
from ptqbench.plugin.classes import check_classes
from ptqbench.plugin.component import Bound
from ptqbench.plugin.manager import PluginManager
from ptqbench.recipe.bind import Binder
from ptqbench.recipe.problems import Problems
from ptqbench.recipe.read import apply_overrides


def chosen_component(role: str, name: str, set: Overrides = (), plugins: Sequence[str | Path] = ()) -> Bound:
    """The component of a role with its options, `set` by key as TOML; `plugins` are files to look in as well.

    Raises `UserError` where there is none, for options that it does not take, and for a class that is not of its role.
    """
    manager = PluginManager(plugins)
    record = manager.find(role, name)
    problems = Problems()
    table = apply_overrides({role: {"use": record.qualified}}, [f"{role}.{word}" for word in words_of(set)], problems)
    found = Binder(manager, problems).bind(role, table[role], (role,))
    if problems.found or found is None:
        raise problems.error(f'the {role} "{name}"', manager.left_out())
    check_classes([found])
    return found
