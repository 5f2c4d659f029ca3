"""Fitting a recipe's cells under observation, and reading what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptqbench.boundary.build import build
from ptqbench.diagnostics.observer import GradientObserver
from ptqbench.errors import PluginError, UserError
from ptqbench.failures import PLUGIN_ERRORS, blamed, reason_of, traceback_of
from ptqbench.fitting.method import phases_with_work
from ptqbench.fitting.units import observed_file, weighter_file
from ptqbench.recipe.experiment import Cell, Experiment
from ptqbench.results.costs import FAILED
from ptqbench.results.fits import FitQuality
from ptqbench.roles.executor import Ended, Report, Task
from ptqbench.running.cell import cell_quantizer
from ptqbench.running.executor import crew_of, execute, local
from ptqbench.running.preflight import preflight
from ptqbench.running.tasks import cell_tasks, perform, reference_tasks
from ptqbench.stage.cache import CacheWriteError, Costs, Entry
from ptqbench.stage.context import RunContext, Settings
from ptqbench.stage.stages import Tell

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class UnitFindings:
    """One unit of one phase: what the observer found (see `GradientObserver`), what its weighter reported, what it came to."""

    name: str
    observed: Arrays
    report: Arrays
    quality: FitQuality | None = None


@dataclass(frozen=True)
class Observation:
    """One phase of one cell. `entry` names the stored result: cells with equal entries were fitted together.

    `seconds` is what fitting took, without the measuring.
    """

    cell: Cell
    phase: str
    entry: str
    seconds: float
    units: list[UnitFindings]


@dataclass
class Collected:
    """Observations in the order of the recipe, the cells that failed with the reason, and those with nothing to fit.

    `tracebacks` are those of the failed cells.
    """

    observations: list[Observation] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    tracebacks: dict[str, str] = field(default_factory=dict)
    unfitted: list[str] = field(default_factory=list)


@blamed()
def collect(
    experiment: Experiment,
    settings: Settings,
    observer: GradientObserver,
    report: Report,
    announce: Callable[[list[Task]], None],
) -> Collected:
    """Fit every cell that has something to fit, or read it from the cache, and load the findings.

    Raises `PluginError` for a component whose class cannot be used, before anything is computed, and for one that fails in
    what all cells share.
    """
    ctx = RunContext.of(experiment, settings)
    found = preflight(ctx, measuring=False)
    found.require_shared()
    # Images, probes and features belong to evaluation.
    shared = [task for task in reference_tasks(ctx) if task.kind == "trajectories"]
    after = frozenset(task.name for task in shared)
    tasks = [replace(task, after=after) for task in cell_tasks(ctx)]
    # A plugin's author gets the traceback, which the cell's own task keeps.
    known = {name: error for name, error in found.cells.items() if not isinstance(error, PluginError)}
    fitted = [t for t in tasks if t.label not in known and (t.label in found.cells or _fits(experiment.cells[t.index]))]
    announce([*shared, *fitted])
    results: dict[int, dict[str, Any]] = {
        t.index: {FAILED: str(known[t.label]), "traceback": ""} for t in tasks if t.label in known
    }
    crew = crew_of(ctx, settings, report, partial(observe, observer=observer))
    for task, result in execute(local(), crew, [*shared, *fitted]):
        if isinstance(result, Ended):
            raise UserError(f"a process {result.lost} while it worked on {task.label}", "use --workers 1 if memory ran out")
        if result is not None:
            results[task.index] = result
    return _read(ctx, results)


def _fits(cell: Cell) -> bool:
    """Whether any phase of the cell has something to learn."""
    method = cell.method
    if method is None:
        return False
    return bool(phases_with_work(build(method.reconstruction), method))


def observe(ctx: RunContext, task: Task, tell: Tell, observer: GradientObserver) -> dict[str, Any] | None:
    """Do a task; a cell is only quantized.

    Returns "phases", the stored result and the seconds of each, or "failed", the reason, and "traceback".
    """
    if task.kind != "cell":
        return perform(ctx, task, tell)
    costs = Costs()
    quantizer = cell_quantizer(ctx, ctx.experiment.cells[task.index], costs, tell, observer)
    try:
        quantizer.run()
    except CacheWriteError:
        raise  # every other cell would meet it as well
    except PLUGIN_ERRORS as error:
        return {FAILED: reason_of(error), "traceback": traceback_of(error)}
    phases = {name: [entry.name, costs.stages[entry.path.parent.name].seconds] for name, entry in quantizer.fitted.items()}
    return {"phases": phases}


def _read(ctx: RunContext, results: Mapping[int, dict[str, Any]]) -> Collected:
    found = Collected()
    for index, cell in enumerate(ctx.experiment.cells):
        if index not in results:
            found.unfitted += [cell.id] if cell.method else []
        elif FAILED in results[index]:
            found.failed[cell.id] = results[index][FAILED]
            found.tracebacks |= {cell.id: text} if (text := results[index]["traceback"]) else {}
        else:
            for phase, (name, seconds) in results[index]["phases"].items():
                units = read_units(ctx.cache.entry(*name.split("/")))
                measuring = sum(float(unit.observed["seconds"][0]) for unit in units)
                found.observations.append(Observation(cell, phase, name, seconds - measuring, units))
    return found


def read_units(entry: Entry) -> list[UnitFindings]:
    """The findings of a phase's units in execution order; units with nothing to learn have none."""
    found = []
    for position, (name, fit) in enumerate(entry.load_json("units.json").items()):
        if entry.has(observed_file(position)):
            report = _arrays(entry, weighter_file(position)) if entry.has(weighter_file(position)) else {}
            found.append(UnitFindings(name, _arrays(entry, observed_file(position)), report, FitQuality.from_dict(fit)))
    return found


def _arrays(entry: Entry, name: str) -> Arrays:
    return {key: np.asarray(value) for key, value in entry.load_tensors(name).items()}
