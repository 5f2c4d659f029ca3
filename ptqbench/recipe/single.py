"""One method without a recipe around it: a preset's name or a table, at given bits."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from ptqbench.plugin.manager import PluginManager
from ptqbench.recipe import keypath
from ptqbench.recipe.bind import Binder, validate
from ptqbench.recipe.defaults import Defaults
from ptqbench.recipe.expand import expand
from ptqbench.recipe.experiment import Method
from ptqbench.recipe.lineage import settle
from ptqbench.recipe.methods import read_methods
from ptqbench.recipe.problems import Problems
from ptqbench.recipe.read import plain
from ptqbench.recipe.schema import NAME_PATTERN, SweepSection


def load_method(
    method: str | Mapping[str, Any],
    bits: str,
    steps: int,
    *,
    overrides: Mapping[str, Any] | None = None,
    manager: PluginManager | None = None,
) -> Method:
    """The method of a preset's name, or of a table as [methods.NAME] has it, at bits such as "W4A8".

    `overrides` are values by key path below the method ("reconstruction.iterations"); `steps` is the number of sampling steps.
    Raises `RecipeError` with all that is wrong, or `RecipePluginError` if plugins are.
    """
    manager = manager if manager is not None else PluginManager()
    problems = Problems()
    table = {"method": method} if isinstance(method, str) else copy.deepcopy(dict(method))
    name = _name(table)
    for key, value in (overrides or {}).items():
        try:
            keypath.put(table, keypath.parse(key), value)
        except ValueError as error:
            problems.add((f"set {key}",), str(error), 'write set={"key.path": value}')
    methods = {name: plain(table, ("methods", name), problems)}
    found = read_methods(methods, Defaults(), {}, steps, Binder(manager, problems))
    label: SweepSection | None = validate(SweepSection, {"bits": [bits]}, (), problems)
    cells = expand(found.variants, label.bits if label else None, [0], steps, problems)
    settle(problems, found.lines, methods)
    chosen = cells[-1].method if cells else None
    if problems.found or chosen is None:
        raise problems.error(f"method {name}", manager.left_out())
    return chosen


def _name(table: Mapping[str, Any]) -> str:
    start = table.get("method")
    return start if isinstance(start, str) and re.fullmatch(NAME_PATTERN, start) else "method"
