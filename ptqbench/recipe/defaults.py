"""[defaults]: what every method of a recipe has unless it says otherwise itself.

It goes over the preset that a method starts from and under what the recipe's own methods say, so that a recipe's fast constants
stand once and reach presets as well.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ptqbench.errors import UserError
from ptqbench.plugin.names import suggest
from ptqbench.recipe.bind import Binder, is_table
from ptqbench.recipe.extend import Table, complete, merge
from ptqbench.recipe.keypath import at, put, writes
from ptqbench.recipe.problems import Problems
from ptqbench.recipe.schema import METHOD_REFERENCES, STARTS

SECTION = "defaults"
Path = tuple[str, ...]


@dataclass(frozen=True)
class Defaults:
    """The section in two parts: `table` is for every method; `options`, by path, for methods whose component has the option.

    Those are the tables without `use`: what `[defaults.reconstruction]` says of iterations is nothing to a reconstruction that
    has none. `used` collects the options that some method took.
    """

    table: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[Path, Any] = field(default_factory=dict)
    used: set[Path] = field(default_factory=set)

    def under(self, own: Mapping[str, Any], preset: Mapping[str, Any], binder: Binder) -> tuple[Table, frozenset[Path]]:
        """A method's complete table from what it says itself and its preset's, and which of `options` it took."""
        table = complete(merge(merge(preset, self.table), own))
        taken = frozenset(path for path in self.options if not writes(own, path) and binder.has_option(table, path))
        for path in taken:
            put(table, path, copy.deepcopy(self.options[path]))
        self.used.update(taken)
        return table, taken


def read_defaults(raw: object, problems: Problems) -> Defaults:
    """The section of a recipe; what cannot stand in it is reported."""
    if not is_table(raw, (SECTION,), problems, "[defaults] holds what [methods.NAME] may hold"):
        return Defaults()
    table = copy.deepcopy(dict(raw))  # type: ignore[call-overload]
    for key in STARTS:
        if table.pop(key, None) is not None:
            problems.add((SECTION, key), "what a method starts from cannot be a default", "say it in each method")
    options: dict[Path, Any] = {}
    for path in METHOD_REFERENCES:
        given = at(table, path)
        if isinstance(given, dict) and "use" not in given:
            options |= {(*path, option): value for option, value in at(table, path[:-1]).pop(path[-1]).items()}
    return Defaults(table, options)


def report_untaken(defaults: Defaults, tables: Iterable[Mapping[str, Any]], binder: Binder, whole: bool) -> None:
    """Report options that no method's component has, with those that there are.

    Where a component is not there, or a method not known (`whole` is false), nothing is said: it may have the option.
    """
    tables = list(tables)
    for path in [path for path in defaults.options if path not in defaults.used]:
        records = binder.chosen(tables, path[:-1])
        there = [record for record in records if not isinstance(record, UserError)]
        known = {option for record in there for option in record.component.options.model_fields}
        # One that all methods say themselves is no mistake.
        if path[-1] not in known and whole and len(there) == len(records):
            message = "no method has a component with this option"
            binder.problems.add((SECTION, *path), message, suggest(path[-1], known, "options there"))
