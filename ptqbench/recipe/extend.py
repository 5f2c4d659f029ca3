"""What tables of methods mean: how one goes over another, and what is added where nothing is said."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from ptqbench.plugin.names import FULL_PRECISION
from ptqbench.recipe.problems import Problems
from ptqbench.recipe.schema import METHOD_LISTS, METHOD_REFERENCES, NAME_PATTERN, NAME_RULE

Table = dict[str, Any]


def merge(parent: Mapping[str, Any], child: Mapping[str, Any]) -> Table:
    """The child's table over the parent's.

    Tables merge key by key, with two rules for components: a string, or a table whose `use` differs, replaces the
    parent's choice with all its options; a table without `use` (or with the same) changes single options of it.
    """
    merged = copy.deepcopy(dict(parent))
    for key, value in child.items():
        old = merged_into(merged.get(key), value)
        merged[key] = copy.deepcopy(value) if old is None else merge(old, value)
    return merged


def merged_into(old: object, value: object) -> Table | None:
    """The parent's value as the table that the child's value changes key by key; None if it is replaced."""
    if not isinstance(value, dict):
        return None
    table = {"use": old} if isinstance(old, str) else old
    return table if isinstance(table, dict) and value.get("use", table.get("use")) == table.get("use") else None


def complete(method: Mapping[str, Any]) -> Table:
    """The method with every component named: defaults where it names none, tables in place of short forms.

    What has a wrong type stays as it is, for the schema to refuse.
    """
    table = copy.deepcopy(dict(method))
    for path, (_, default) in METHOD_REFERENCES.items():
        owner: object = table
        for key in path[:-1]:
            owner = owner.setdefault(key, {}) if isinstance(owner, dict) else None
        if not isinstance(owner, dict):
            continue
        value = owner.get(path[-1], default)
        if isinstance(value, str):
            owner[path[-1]] = {"use": value}
        elif isinstance(value, dict) and default is not None:
            owner[path[-1]] = {"use": default, **value}
    for key, (_, names) in METHOD_LISTS.items():
        table.setdefault(key, list(names))
    return table


def check_names(methods: Mapping[str, Any], problems: Problems) -> None:
    """Report method names that cannot be used."""
    seen: dict[str, str] = {}
    for name in methods:
        twin = seen.setdefault(name.lower(), name)
        if twin != name:
            problems.add(("methods", name), f'differs from "{twin}" in upper and lower case only', "rename one of them")
        elif name == FULL_PRECISION:
            problems.add(("methods", name), "is reserved for the row that every comparison has", "choose another name")
        elif not re.fullmatch(NAME_PATTERN, name):
            problems.add(("methods", name), "cannot be a method's name", NAME_RULE)
