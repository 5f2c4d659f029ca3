"""The checks of each role in their order, and components to run them on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import ptqbench.testing.deployment as deployment
import ptqbench.testing.executors as executors
import ptqbench.testing.parts as parts
import ptqbench.testing.quantizers as quantizers
import ptqbench.testing.whole as whole
from ptqbench.boundary.watch import every_call
from ptqbench.errors import UserError
from ptqbench.plugin.classes import check_class
from ptqbench.plugin.manager import PluginManager
from ptqbench.plugin.names import role_words, suggest
from ptqbench.plugin.records import Record
from ptqbench.process.snapshot import undisturbed
from ptqbench.recipe.words import problems_of
from ptqbench.testing.importing import imports_quietly
from ptqbench.testing.methods import fits
from ptqbench.testing.trial import Trial

Check = Callable[[Trial], None]
"""Raises `PluginError` with a remedy for what it finds; the first line of its docstring says what should hold."""


def right_class(trial: Trial) -> None:
    """The class is of its role's interface, complete, with its signatures."""
    check_class(trial.bound.component, trial.bound.plugin)


_QUANTIZERS = (quantizers.grids, quantizers.same_twice, quantizers.restored, quantizers.learning, fits)
_CHECKS: Mapping[str, Sequence[Check]] = {
    "sampler": (parts.selections, fits),
    "weighter": (fits,),
    "reconstruction": (fits,),
    "loss": (parts.losses, fits),
    "weight-quantizer": _QUANTIZERS,
    "activation-quantizer": _QUANTIZERS,
    "range": (parts.ranges, fits),
    "pass": (parts.plans, fits),
    "partitioner": (fits,),
    "solver": (whole.solvers,),
    "sampler-hook": (parts.hooks, fits),
    "model": (whole.models,),
    "features": (whole.features,),
    "metric": (whole.metrics,),
    "reporter": (whole.reports,),
    "executor": (executors.executes,),
    "network-quantizer": (deployment.networks,),
    "exporter": (deployment.exports,),
    "engine": (deployment.programs,),
}


def checks(role: str) -> tuple[Check, ...]:
    """All checks of a role."""
    return (imports_quietly, right_class, *_CHECKS[role])


def check(trial: Trial) -> None:
    """Hold a component to its contract. Raises `PluginError` for the first thing that is wrong, and says what would be right.

    Every call is watched: none may move streams, defaults, threads, warnings or the working folder.
    """
    for one in checks(trial.bound.role):
        run(one, trial)


def run(one: Check, trial: Trial) -> None:
    """One check, after which the process is as it was."""
    bound = trial.bound
    with undisturbed(), every_call(bound.role, bound.name, bound.plugin):
        one(trial)


def components(source: str | Path, options: Mapping[str, Mapping[str, Any]] | None = None) -> list[Trial]:
    """The components of a plugin: of a file, or of an installed one by its name or its package's.

    `options` are those of components by name; others have their defaults. Raises `PluginError` for a plugin that does not load
    and `UserError` for one that is not there, for options that do not fit, and for a plugin without components.
    """
    manager, chosen = PluginManager(warn=lambda _: None), options or {}
    with undisturbed():
        found = _of_file(manager, Path(source)) if str(source).endswith(".py") else _installed(manager, str(source))
    if not found:
        raise UserError(f"the plugin {source} has no components", "presets and commands have no contract beyond their form")
    if unknown := sorted(set(chosen) - {record.name for record in found}):
        raise UserError(f"no component is called {unknown[0]}", suggest(unknown[0], [record.name for record in found]))
    return [Trial(manager.bind(record, _options(record, chosen.get(record.name, {}))), manager) for record in found]


def _of_file(manager: PluginManager, path: Path) -> list[Record]:
    info = manager.load_file(path)
    return [record for record in manager.components() if record.plugin == info]


def _installed(manager: PluginManager, name: str) -> list[Record]:
    if name not in {word for info in manager.plugins for word in (info.name, info.module)}:
        remedy = f"{suggest(name, (info.name for info in manager.plugins), 'installed')}\n{manager.left_out()}".strip()
        raise UserError(f"there is no plugin {name!r}", f"name a .py file or an installed plugin; {remedy}")
    return [record for record in manager.components() if name in (record.plugin.name, record.plugin.module)]


def _options(record: Record, given: Mapping[str, Any]) -> Any:
    try:
        # Through JSON, as recipes do it: there an array is a tuple.
        return record.component.options.model_validate_json(json.dumps(given))
    except ValidationError as error:
        first = problems_of(error, record.component.options, (), "option")[0]
        # A validator of all options together names none.
        place = f"{first.place}: " if first.path else ""
        known = bool(first.path) and first.path[0] in record.component.options.model_fields
        how = f"set it: --set {record.name}.{first.place}=..., or components(..., options={{{record.name!r}: {{...}}}})"
        raise UserError(
            f'the {role_words(record.role)} "{record.name}" cannot be tried with these options: {place}{first.message}',
            "\n".join(filter(None, (first.hint, how if known else ""))),
        ) from error
