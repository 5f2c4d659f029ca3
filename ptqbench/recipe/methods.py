"""From [methods] and the sweep's axes to `Method` records: every variant of every method, checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ptqbench.recipe import axes as sweep_axes
from ptqbench.recipe.bind import Binder, is_table, sound_values, validate
from ptqbench.recipe.build import Draft, choose, draft, records
from ptqbench.recipe.checks import check_network
from ptqbench.recipe.defaults import Defaults, report_untaken
from ptqbench.recipe.extend import Table, check_names, complete
from ptqbench.recipe.keypath import writes
from ptqbench.recipe.lineage import Lineage, lineage
from ptqbench.recipe.problems import Problem, Problems
from ptqbench.recipe.schema import ActivationSite, MethodSection
from ptqbench.recipe.words import render

_HINT = "each method is a table [methods.NAME]"


@dataclass(frozen=True)
class Labelled:
    """A method, as far as it is known, and the label of its variant, "" if no axis applied."""

    draft: Draft
    label: str


@dataclass(frozen=True)
class Methods:
    """All methods in the recipe's order, each with its variants and with what it starts from."""

    variants: dict[str, list[Labelled]] = field(default_factory=dict)
    lines: dict[str, Lineage] = field(default_factory=dict)

    @property
    def unsure(self) -> set[str]:
        """Those of which some variants may be missing."""
        return {name for name, found in self.variants.items() if not found or any(x.draft.method is None for x in found)}


def read_methods(
    raw: object, defaults: Defaults, sweep: Mapping[str, Any], sampling_steps: int | None, binder: Binder
) -> Methods:
    """The methods of a recipe with their variants, and all that is wrong in them.

    No mistake hides another: a method whose start is not there is checked in what it says itself.
    """
    problems = binder.problems
    if not isinstance(raw, dict) or not raw:
        message = "must be a table" if raw else "there is no method"
        problems.add(("methods",), message, _HINT)
        sweep_axes.read_axes(sweep, None, problems)
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
            varied = (path[2:] for path in variant.origin)
            check_network(variant.table, (*_said(raw[name]), *varied), ("methods", name), local)
            made = draft(name, variant.table, preset.name if preset else "", sampling_steps, bound_to)
            problems.extend([_on_axis(problem, variant) for problem in local])
            found[name].append(Labelled(made, ",".join(variant.labels)))
    for name in lines:
        if name not in tables:
            found[name].append(Labelled(_alone(name, raw[name], binder), ""))
    # An axis or a default may be meant for a method whose start is not there.
    whole = len(tables) == len(lines)
    report_untaken(defaults, tables.values(), binder, whole)
    sweep_axes.report_unused(axes, used, tables, binder, whole)
    return Methods(found, lines)


def _said(table: Table) -> Iterator[tuple[str, ...]]:
    """The known keys in a method's own words, those of its sites one by one."""
    for key in sweep_axes.KEYS[()]:
        if (key,) in sweep_axes.KEYS and isinstance(table.get(key), dict):
            yield from ((key, inner) for inner in table[key] if inner in sweep_axes.KEYS[key,])
        elif key in table:
            yield (key,)


def _alone(name: str, table: Table, binder: Binder) -> Draft:
    """A method in its own words alone, since what it starts from is not there; what is wrong in them whatever that is."""
    local = Problems()
    validate(MethodSection, complete(table), ("methods", name), local)
    choose(table, ("methods", name), replace(binder, problems=local))
    binder.problems.extend([problem for problem in local if writes(table, problem.path[2:])])
    steps = sound_values(ActivationSite, table.get("activations")).get("steps")
    return Draft(name, records(table, binder), (None, None), steps if isinstance(steps, int) else None, None)


def _on_axis(problem: Problem, variant: sweep_axes.Variant) -> Problem:
    """A problem with a value that an axis has set belongs to the axis, because that is where the value is written."""
    for path, (key, value) in variant.origin.items():
        if problem.path[: len(path)] == path:
            return replace(problem, path=("sweep", key), message=f"with {render(value)}: {problem.message}")
    return problem
