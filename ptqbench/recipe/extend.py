"""From [methods] as written to one complete table per method: `extends`, then defaults."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from ptqbench.names import suggest
from ptqbench.recipe.experiment import FULL_PRECISION
from ptqbench.recipe.problems import Problems
from ptqbench.recipe.schema import METHOD_REFERENCES, NAME_PATTERN, NAME_RULE

Table = dict[str, Any]


def merge(parent: Mapping[str, Any], child: Mapping[str, Any]) -> Table:
    """The child's table over the parent's.

    Tables merge key by key, with two rules for components: a string, or a table whose `use` differs, replaces the
    parent's choice with all its options; a table without `use` (or with the same) changes single options of it.
    """
    merged = copy.deepcopy(dict(parent))
    for key, value in child.items():
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, str):
            old = {"use": old}
        if isinstance(value, dict) and isinstance(old, dict) and value.get("use", old.get("use")) == old.get("use"):
            merged[key] = merge(old, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


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


def ancestry(name: str, methods: Mapping[str, Any], problems: Problems) -> list[str]:
    """The method and what it extends, nearest first; an unknown parent or a cycle is reported and ends the list."""
    line = [name]
    while True:
        table = methods[line[-1]]
        parent = table.get("extends") if isinstance(table, dict) else None
        where = ("methods", line[-1], "extends")
        if not isinstance(parent, str):
            return line
        if parent in line:
            # Every member of a cycle meets it; it is reported once, at the member that comes first in the recipe.
            cycle = line[line.index(parent) :]
            first = min(cycle, key=list(methods).index)
            turned = cycle[cycle.index(first) :] + cycle[: cycle.index(first)]
            chain = " -> ".join([*turned, first])
            message = f"goes round in a circle: {chain}"
            problems.add(("methods", first, "extends"), message, "let one of them stand alone")
            return line
        if parent not in methods:
            known = [other for other in methods if other != line[-1]]
            problems.add(where, f'there is no method "{parent}" to start from', suggest(parent, known, "methods"))
            return line
        line.append(parent)


def inherit(line: list[str], methods: Mapping[str, Any]) -> Table:
    """The merged table of a method, given its ancestry."""
    merged: Table = {}
    for name in reversed(line):
        merged = merge(merged, methods[name] if isinstance(methods[name], dict) else {})
    return merged
