"""Results kept in a repository: records without what only a run's own folder needs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ptqbench.errors import UserError
from ptqbench.findings.document import Document, RunEntry
from ptqbench.plugin.manager import PluginManager
from ptqbench.plugin.names import FULL_PRECISION, row_name
from ptqbench.recipe.describe import describe_methods
from ptqbench.recipe.load import load_experiment
from ptqbench.recipe.problems import Problems, RecipeError
from ptqbench.recipe.read import apply_overrides, read_recipe
from ptqbench.results.record import RunRecord

FOR_READERS = frozenset({"published", "report", "profiles"})
"""Sections of a recipe that decide no number; a profile does only in a run that names it, whose data has it merged."""

WRITTEN = frozenset({"defaults", "methods"})
"""Sections whose wording decides no number where a record says what its methods resolved to."""

FEW = 4
"""Names that a message lists before it counts the rest."""


def load_records(document: Document, folder: Path) -> dict[str, RunRecord]:
    """The record of every run. Raises `UserError` naming all that are missing."""
    paths = {run.name: folder / document.results / f"{run.name}.json" for run in document.runs}
    missing = [path.name for path in paths.values() if not path.is_file()]
    if missing:
        raise UserError(f"no kept results: {', '.join(missing)}", "make them with `ptqbench findings FILE --run`")
    return {name: RunRecord.load(path) for name, path in paths.items()}


def changes(document: Document, records: Mapping[str, RunRecord], folder: Path) -> dict[str, str]:
    """Runs whose recipe, or what its methods resolve to, is no longer what their record was made by: what differs, in words.

    Titles, quoted figures and report formats decide no number and do not count, nor does how methods are written: they are
    compared by what they resolve to, as far as the record has that (see `silent`). Raises `UserError` for wrong overrides.
    """
    found = {}
    unsaid = silent(records)
    for run in document.runs:
        try:
            now = _plain(_recipe_of(run, folder))
        except RecipeError as error:
            found[run.name] = f"its recipe cannot be read: {error.message}"
            continue
        then = _plain(records[run.name].recipe)
        if run.name not in unsaid:
            then, now = ({key: value for key, value in data.items() if key not in WRITTEN} for data in (then, now))
        if different := _different(then, now):
            found[run.name] = f"the recipe changed since: {', '.join(different)}"
        elif words := _methods_changed(run, records[run.name], folder):
            found[run.name] = words
    return found


def silent(records: Mapping[str, RunRecord]) -> dict[str, str]:
    """Runs whose record does not say what all of its methods resolved to, so that a changed preset cannot be seen."""
    found = {}
    for name, record in records.items():
        rows = dict.fromkeys(row_name(c.method, c.bits, c.variant) for c in record.cells if c.method != FULL_PRECISION)
        if unknown := [row for row in rows if row not in record.methods]:
            found[name] = f"its record does not say what these resolved to, so changed presets are not seen: {_few(unknown)}"
    return found


def save_record(record: RunRecord, path: Path) -> None:
    """Write a record without its tables of layers and units, one cell a line, so that a repository stays light."""
    data = dataclasses.asdict(record)
    for cell in data["cells"]:
        cell["ledger"], cell["fits"] = [], []
        for number in cell["metrics"].values():
            # Errors by timestep, for reading only.
            number["detail"] = {key: [float(f"{x:.3g}") for x in values] for key, values in number["detail"].items()}
            # Nine digits are more than any interval resolves.
            number["replicates"] = [float(f"{x:.9g}") for x in number["replicates"]]
    data["comparisons"] = []
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_lines(data), encoding="utf-8")


def _recipe_of(run: RunEntry, folder: Path) -> dict[str, Any]:
    """The recipe's data with the run's overrides."""
    problems = Problems()
    data = apply_overrides(read_recipe(folder / run.recipe), run.overrides, problems)
    if problems.found:
        raise UserError(f"the run {run.name} has wrong overrides", problems.error(run.recipe, "").message)
    return data


def _methods_changed(run: RunEntry, record: RunRecord, folder: Path) -> str:
    """How methods resolve otherwise than the record says, though the recipe is the same; "" if they do not."""
    if not record.methods:
        return ""
    try:
        # A plugin that does not load is told where it is missed.
        manager = PluginManager(warn=lambda _: None)
        cells = load_experiment(folder / run.recipe, overrides=run.overrides, manager=manager).cells
    except UserError as error:
        return f"its methods cannot be resolved: {error.message}"
    now, given = (json.loads(json.dumps(describe_methods(cells, defaults=defaults))) for defaults in (True, False))
    different = [
        place
        for row, method in record.methods.items()
        if row in now
        # A preset's name decides no number, what it resolves to does.
        for place in _resolved_differently(method | {"preset": None}, now[row] | {"preset": None}, given[row], row)
    ]
    if not silent({"": record}):
        different += [row for row in {**record.methods, **now} if (row in now) != (row in record.methods)]
    return f"its methods resolve to something else now: {_few(different)}" if different else ""


def _resolved_differently(then: object, now: object, given: object, place: str) -> list[str]:
    """Places at which a method resolves otherwise than a record says.

    Options that it does not name came later and count where they are `given`, that is, differ from their defaults.
    """
    if isinstance(then, dict) and isinstance(now, dict) and isinstance(given, dict) and then.get("use") == now.get("use"):
        later = [f"{place}.{key}" for key in given if "use" in then and key not in then]
        known = [x for key in then for x in _resolved_differently(then[key], now.get(key), given.get(key), f"{place}.{key}")]
        return known + later
    if isinstance(then, list) and isinstance(now, list) and isinstance(given, list) and len(then) == len(now):
        items = enumerate(zip(then, now, given, strict=True))
        return [x for i, item in items for x in _resolved_differently(*item, f"{place}[{i}]")]
    return [] if then == now else [place]


def _few(names: list[str]) -> str:
    """Some names and how many more: one preset may stand behind every row."""
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return ", ".join(names[:FEW]) + more


def _plain(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What decides numbers in a recipe, as a record stores it: JSON without the parts that are only for readers."""
    data: dict[str, Any] = json.loads(json.dumps(recipe, default=str))
    kept = {key: value for key, value in data.items() if key not in FOR_READERS}
    head = kept.get("recipe")
    return kept | ({"recipe": {k: v for k, v in head.items() if k not in ("title", "paper")}} if isinstance(head, dict) else {})


def _different(then: object, now: object, place: str = "") -> list[str]:
    """Places, written like the keys of `--set`, at which two recipes differ."""
    if not (isinstance(then, dict) and isinstance(now, dict)):
        return [] if then == now else [place]
    inside = f"{place}." if place else ""
    return [x for key in dict.fromkeys((*then, *now)) for x in _different(then.get(key), now.get(key), f"{inside}{key}")]


def _lines(data: Mapping[str, Any]) -> str:
    """JSON with one line for each cell and each other entry."""
    entries = []
    for key, value in data.items():
        if key == "cells":
            cells = ",\n".join("  " + json.dumps(cell, separators=(",", ":")) for cell in value)
            entries.append(f' "cells": [\n{cells}\n ]')
        else:
            entries.append(f" {json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}")
    return "{\n" + ",\n".join(entries) + "\n}\n"
