"""From [methods] and the sweep's axes to `Method` records: every variant of every method, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ptqbench.recipe import axes as sweep_axes
from ptqbench.recipe.bind import Binder, is_table
from ptqbench.recipe.build import build
from ptqbench.recipe.defaults import Defaults, report_untaken
from ptqbench.recipe.experiment import Method
from ptqbench.recipe.extend import Table, check_names
from ptqbench.recipe.lineage import Lineage, lineage
from ptqbench.recipe.problems import Problem, Problems
from ptqbench.recipe.words import render

_HINT = "each method is a table [methods.NAME]"


@dataclass(frozen=True)
class Labelled:
    """A method and the label of its variant, "" if no axis applied."""

    method: Method
    label: str


@dataclass(frozen=True)
class Methods:
    """All methods in the recipe's order, each with its variants and with what it starts from."""

    variants: dict[str, list[Labelled]] = field(default_factory=dict)
    lines: dict[str, Lineage] = field(default_factory=dict)


def read_methods(
    raw: object, defaults: Defaults, sweep: Mapping[str, Any], sampling_steps: int | None, binder: Binder
) -> Methods:
    """The methods of a recipe; a variant that has problems is left out and reported."""
    problems = binder.problems
    if not isinstance(raw, dict) or not raw:
        message = "must be a table" if raw else "there is no method"
        problems.add(("methods",), message, _HINT)
        return Methods()
    check_names(raw, problems)
    lines = {n: lineage(n, raw, binder) for n, table in raw.items() if is_table(table, ("methods", n), problems, _HINT)}
    tables: dict[str, Table] = {}
    for name, line in lines.items():
        if line.whole:
            tables[name], taken = defaults.under(line.own(raw), line.preset_table, binder)
            lines[name] = replace(line, defaults=defaults.table, taken=taken)
    axes = sweep_axes.read_axes(sweep, lines, problems)
    used: set[str] = set()
    found: dict[str, list[Labelled]] = {name: [] for name in lines}
    for name, table in tables.items():
        preset = lines[name].preset
        for variant in sweep_axes.variants(name, table, axes, binder, used):
            local = Problems()
            bound_to = replace(binder, problems=local)
            method = build(name, variant.table, preset.name if preset else "", sampling_steps, bound_to)
            problems.extend([_on_axis(problem, variant) for problem in local])
            if method is not None:
                found[name].append(Labelled(method, ",".join(variant.labels)))
    if len(tables) == len(lines):
        # An axis or a default may be meant for a method whose start is not there.
        report_untaken(defaults, tables.values(), binder)
        sweep_axes.report_unused(axes, used, tables, binder)
    return Methods(found, lines)


def _on_axis(problem: Problem, variant: sweep_axes.Variant) -> Problem:
    """A problem with a value that an axis has set belongs to the axis, because that is where the value is written."""
    for path, (key, value) in variant.origin.items():
        if problem.path[: len(path)] == path:
            return replace(problem, path=("sweep", key), message=f"with {render(value)}: {problem.message}")
    return problem
