"""What a method starts from: other methods of the recipe (`extends`), and at the root perhaps a preset (`method`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ptqbench.errors import UserError
from ptqbench.plugin.component import Preset
from ptqbench.plugin.names import suggest
from ptqbench.recipe.bind import Binder
from ptqbench.recipe.defaults import SECTION
from ptqbench.recipe.extend import Table, merge, merged_into
from ptqbench.recipe.keypath import KeyPath, show, writes
from ptqbench.recipe.problems import Problem, Problems
from ptqbench.recipe.schema import STARTS


@dataclass(frozen=True)
class Lineage:
    """A method's name and those it extends, nearest first, and the preset of the last one.

    `whole` is false if something to start from is not there; the method is then not known. `defaults` is what [defaults] says
    to every method, `taken` the paths of single options that this one took from there.
    """

    names: tuple[str, ...]
    preset: Preset | None = None
    whole: bool = True
    defaults: Mapping[str, Any] = field(default_factory=dict)
    taken: frozenset[tuple[str, ...]] = frozenset()

    def own(self, methods: Mapping[str, Any]) -> Table:
        """The merged tables of the methods, without the preset's."""
        merged: Table = {}
        for name in reversed(self.names):
            merged = merge(merged, methods[name] if isinstance(methods[name], dict) else {})
        return merged

    @property
    def preset_table(self) -> Mapping[str, Any]:
        """The preset's table, empty where there is none."""
        return self.preset.table if self.preset else {}


def lineage(name: str, methods: Mapping[str, Any], binder: Binder) -> Lineage:
    """Where a method comes from. An unknown method or preset, a cycle, and two things to start from are reported."""
    line = [name]
    while True:
        table = methods[line[-1]]
        start: Mapping[str, Any] = table if isinstance(table, dict) else {}
        if all(key in start for key in STARTS):
            remedy = "keep one of the two; a method that extends another starts from that one's preset anyway"
            binder.problems.add(("methods", line[-1], "method"), "stands beside extends", remedy)
            return Lineage(tuple(line), whole=False)
        parent = start.get("extends")
        if not isinstance(parent, str):
            return _from_preset(line, start.get("method"), methods, binder)
        if parent in line or parent not in methods:
            _report_parent(line, parent, methods, binder)
            return Lineage(tuple(line), whole=False)
        line.append(parent)


def _from_preset(line: Sequence[str], name: object, methods: Mapping[str, Any], binder: Binder) -> Lineage:
    if not isinstance(name, str):
        return Lineage(tuple(line))
    found = binder.preset(name)
    if not isinstance(found, UserError):
        return Lineage(tuple(line), found)
    where = ("methods", line[-1], "method")
    if name in methods and name != line[-1]:
        remedy = f'"{name}" is a method of this recipe: write extends = "{name}" to start from it'
        binder.problems.add(where, found.message, remedy)
    else:
        binder.problems.add_error(where, found)
    return Lineage(tuple(line), whole=False)


def _report_parent(line: Sequence[str], parent: str, methods: Mapping[str, Any], binder: Binder) -> None:
    if parent in line:
        # Every member of a cycle meets it; it is reported once, at the member that comes first in the recipe.
        cycle = [*line[line.index(parent) :]]
        first = min(cycle, key=list(methods).index)
        turned = cycle[cycle.index(first) :] + cycle[: cycle.index(first)]
        message = f"goes round in a circle: {' -> '.join([*turned, first])}"
        binder.problems.add(("methods", first, "extends"), message, "let one of them stand alone")
        return
    known = [name for name in methods if name != line[-1]]
    hint = suggest(parent, known, "methods")
    if not isinstance(binder.preset(parent), UserError):
        hint = f'"{parent}" is a preset: write method = "{parent}" to start from it'
    binder.problems.add(("methods", line[-1], "extends"), f'there is no method "{parent}" to start from', hint)


def settle(problems: Problems, lines: Mapping[str, Lineage], methods: Mapping[str, Any]) -> None:
    """Say what several methods inherit once, at the one that writes it, and what a preset says where it is named."""
    kept = [problem for problem in problems if not _inherited(problem, lines, methods, problems)]
    problems.found.clear()
    problems.extend([_placed(problem, lines, methods) for problem in kept])


def _inherited(problem: Problem, lines: Mapping[str, Lineage], methods: Mapping[str, Any], problems: Iterable[Problem]) -> bool:
    """Whether the same problem is reported at an ancestor, and the method itself does not write the key."""
    line, rest = _located(problem, lines)
    if line is None or writes(methods[line.names[0]], rest):
        return False
    places = {("methods", parent, *rest) for parent in line.names[1:]}
    return any(other.path in places and other.message == problem.message for other in problems)


def _placed(problem: Problem, lines: Mapping[str, Lineage], methods: Mapping[str, Any]) -> Problem:
    """The problem itself, or where the value is written if that is [defaults], or at the key that leads to the preset."""
    line, rest = _located(problem, lines)
    if line is None:
        return problem
    inherited = _from_child(merge(line.preset_table, line.defaults), line.own(methods), rest) is False
    if any(rest[: len(option)] == option for option in line.taken) or (
        inherited and _from_child(line.preset_table, line.defaults, rest)
    ):
        return replace(problem, path=(SECTION, *rest))
    if line.preset is None or not inherited:
        return problem
    key = "method" if len(line.names) == 1 else "extends"
    message = f'in the preset "{line.preset.name}", {show(rest)}: {problem.message}'
    return replace(problem, path=("methods", line.names[0], key), message=message)


def _located(problem: Problem, lines: Mapping[str, Lineage]) -> tuple[Lineage | None, KeyPath]:
    """The lineage of the method that a problem is reported at, and the path below the method."""
    if len(problem.path) < 3 or problem.path[0] != "methods" or problem.path[2] in STARTS:
        return None, ()
    return lines.get(str(problem.path[1])), problem.path[2:]


def _from_child(parent: Mapping[str, Any], child: Mapping[str, Any], path: KeyPath) -> bool | None:
    """Who wrote the value at a path of `merge(parent, child)`: the child or not, None for neither.

    A component belongs to whoever named it, and so do the options that it lacks.
    """
    key, rest = path[0], path[1:]
    if not isinstance(key, str) or key not in child:
        return False if key in parent else None
    old = merged_into(parent.get(key), child[key])
    if old is None:
        return True
    deeper = _from_child(old, child[key], rest) if rest else None
    if deeper is not None:
        return deeper
    if "use" in child[key]:
        return True
    return False if "use" in old else None
