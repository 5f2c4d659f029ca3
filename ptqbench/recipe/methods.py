"""From [methods] and the sweep's axes to `Method` records: every variant of every method, checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ptqbench.component import Bound
from ptqbench.recipe import axes as sweep_axes
from ptqbench.recipe.bind import Binder, is_table, validate
from ptqbench.recipe.checks import check_closed_form
from ptqbench.recipe.experiment import Method, SiteChoice
from ptqbench.recipe.extend import Table, ancestry, check_names, complete, inherit
from ptqbench.recipe.keypath import KeyPath
from ptqbench.recipe.problems import Problem, Problems
from ptqbench.recipe.schema import METHOD_REFERENCES, ActivationSite, MethodSection, WeightSite
from ptqbench.recipe.words import render

_HINT = "each method is a table [methods.NAME]"


@dataclass(frozen=True)
class Labelled:
    """A method and the label of its variant, "" if no axis applied."""

    method: Method
    label: str


def read_methods(raw: object, sweep: Mapping[str, Any], binder: Binder) -> dict[str, list[Labelled]]:
    """All methods in the recipe's order, each with its variants; what has problems is left out and reported."""
    problems = binder.problems
    if not isinstance(raw, dict) or not raw:
        message = "must be a table" if raw else "there is no method"
        problems.add(("methods",), message, _HINT)
        return {}
    check_names(raw, problems)
    tables, lines = _tables(raw, problems)
    axes = sweep_axes.read_axes(sweep, tables, problems)
    used: set[str] = set()
    found: dict[str, list[Labelled]] = {}
    for name, table in tables.items():
        found[name] = []
        for variant in sweep_axes.variants(name, table, axes, binder, used):
            local = Problems()
            method = _build(name, variant.table, replace(binder, problems=local))
            problems.extend([_on_axis(problem, variant) for problem in local])
            if method is not None:
                found[name].append(Labelled(method, ",".join(variant.labels)))
    sweep_axes.report_unused(axes, used, tables, binder)
    problems.found[:] = [problem for problem in problems if not _inherited(problem, lines, raw, problems)]
    return found


def _tables(raw: Mapping[str, Any], problems: Problems) -> tuple[dict[str, Table], dict[str, list[str]]]:
    """Each method's complete table, and what it extends."""
    lines = {n: ancestry(n, raw, problems) for n, t in raw.items() if is_table(t, ("methods", n), problems, _HINT)}
    return {name: complete(inherit(line, raw)) for name, line in lines.items()}, lines


def _build(name: str, table: Mapping[str, Any], binder: Binder) -> Method | None:
    where = ("methods", name)
    section: MethodSection | None = validate(MethodSection, table, where, binder.problems)
    bound: dict[tuple[str, ...], Bound | None] = {}
    for path, (role, _) in METHOD_REFERENCES.items():
        bound[path] = binder.bind(role, _at(table, path), (*where, *path))
    _take_defaults(bound, where, binder)
    passes = binder.bind_all("pass", table.get("passes"), (*where, "passes"))
    check_closed_form(bound, where, binder.problems)
    if section is None or binder.problems.found:
        return None
    chosen = {path: value for path, value in bound.items() if value is not None}
    return Method(
        name=name,
        sampler=chosen[("sampler",)],
        weighter=chosen[("weighter",)],
        reconstruction=chosen[("reconstruction",)],
        weights=_site(section.weights, chosen, "weights"),
        activations=_site(section.activations, chosen, "activations"),
        passes=passes,
        partitioner=chosen.get(("partitioner",)),
    )


def _take_defaults(bound: dict[tuple[str, ...], Bound | None], where: KeyPath, binder: Binder) -> None:
    """Where the recipe names no component of a role, take the one that another chosen component implies."""
    for owner in [b for b in bound.values() if b is not None]:
        for role, name in owner.component.defaults.items():
            if (role,) in bound and bound[(role,)] is None:
                bound[(role,)] = binder.bind(role, name, (*where, role))


def _site(section: WeightSite | ActivationSite, chosen: Mapping[tuple[str, ...], Bound], key: str) -> SiteChoice:
    return SiteChoice(
        bits=section.bits,
        per=section.per,
        symmetric=section.symmetric,
        steps=section.steps,
        quantizer=chosen[(key, "quantizer")],
        range=chosen[(key, "range")],
    )


def _at(table: object, path: Sequence[str | int]) -> Any:
    for key in path:
        if not isinstance(table, dict) or key not in table:
            return None
        table = table[key]
    return table


def _on_axis(problem: Problem, variant: sweep_axes.Variant) -> Problem:
    """A problem with a value that an axis has set belongs to the axis, because that is where the value is written."""
    for path, (key, value) in variant.origin.items():
        if problem.path[: len(path)] == path:
            return replace(problem, path=("sweep", key), message=f"with {render(value)}: {problem.message}")
    return problem


def _inherited(problem: Problem, lines: Mapping[str, list[str]], raw: Mapping[str, Any], problems: Iterable[Problem]) -> bool:
    """Whether the same problem is reported at an ancestor, and the method itself does not write the key."""
    if len(problem.path) < 3 or problem.path[0] != "methods":
        return False
    name, rest = str(problem.path[1]), problem.path[2:]
    if _at(raw[name], rest) is not None:
        return False
    places = {("methods", parent, *rest) for parent in lines.get(name, [])[1:]}
    return any(other.path in places and other.message == problem.message for other in problems)
