"""Running an experiment: shared stages, then cells, then the record."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from ptqbench.errors import PluginError, UserError
from ptqbench.failures import PLUGIN_ERRORS, blamed
from ptqbench.measuring.features import check_metrics
from ptqbench.measuring.protocol import protocol
from ptqbench.plugin.classes import check_classes
from ptqbench.recipe.describe import describe_methods
from ptqbench.recipe.experiment import Cell, Experiment
from ptqbench.results.compare import attach_comparisons
from ptqbench.results.costs import FAILED
from ptqbench.results.record import CellRecord, RunRecord
from ptqbench.running.cell import TRACEBACK, CellRun, cell_key
from ptqbench.running.executor import Local, Report, failed_or_done
from ptqbench.running.forecast import forecast
from ptqbench.running.preflight import cell_problems, preflight
from ptqbench.running.tasks import Task, cell_tasks, pending, reference_tasks
from ptqbench.stage.context import RunContext, Settings
from ptqbench.stage.machine import PACKAGES, hardware
from ptqbench.stage.precision import FLOAT32, arithmetic_words
from ptqbench.version import __version__


@blamed()
def run_experiment(
    experiment: Experiment, settings: Settings, report: Report, announce: Callable[[list[Task]], None]
) -> RunRecord:
    """Compute whatever is not in the cache and return the record of the whole comparison.

    `announce` is told the tasks before they start, `report` how they go. A cell that fails becomes a failed record.

    Raises `UserError` where no cell could go on: a cache that cannot keep results, a component that cannot be used or fails
    in what all cells share (`PluginError`).
    """
    check_classes(experiment.components())
    ctx = RunContext.of(experiment, settings)
    check_metrics(ctx)
    tasks = cell_tasks(ctx)
    if not pending(ctx):
        # Nothing to compute: reading the records needs neither workers nor the model.
        return _record(ctx, settings, [CellRun(ctx, cell, lambda *_: None).run() for cell in experiment.cells])
    found = preflight(ctx)
    found.require_shared()
    references, tasks = _timed(ctx, reference_tasks(ctx), tasks)
    announce([*references, *tasks])
    records: dict[int, CellRecord] = {}

    def refuse(known: Mapping[str, UserError]) -> None:
        # Cells that cannot be done wait for nothing, and cost nothing: their reasons are known now.
        for task in tasks:
            if (error := known.get(task.label)) is not None and not isinstance(error, PluginError):
                records[task.index] = _failed(experiment.cells[task.index], str(error))
                report(task, FAILED, 1.0)

    refuse(found.cells)
    with Local(experiment, settings, ctx, report) as executor:

        def finish(wave: list[Task]) -> None:
            for task, result in executor.run(wave):
                report(task, failed_or_done(result), 1.0)
                if result is not None:
                    records[task.index] = CellRecord.from_dict(result)

        # A plugin's author gets the traceback, which the cell's own task keeps.
        finish([task for task in tasks if task.index not in records and task.label in found.cells])
        finish(references)
        # Before anything is fitted: what had to wait for trajectories.
        refuse(cell_problems(ctx, [cell for cell in experiment.cells if cell.id in found.waiting]).cells)
        finish([task for task in tasks if task.index not in records])
    return _record(ctx, settings, [records[i] for i in sorted(records)])


def _timed(ctx: RunContext, references: list[Task], tasks: list[Task]) -> tuple[list[Task], list[Task]]:
    """The tasks with the seconds that they are forecast to take; as they are where no forecast can be made."""
    try:
        found = forecast(ctx)
    except PLUGIN_ERRORS:
        return references, tasks  # what is wrong is told by the task that it stops
    seconds = {cell.id: found.cells[cell.id] for cell in ctx.experiment.cells if _finished(ctx, cell) is None}
    return (
        [replace(task, seconds=found.shared / len(references)) for task in references],
        [replace(task, seconds=seconds.get(task.label, 0.0)) for task in tasks],
    )


def unfinished(experiment: Experiment, settings: Settings, error: UserError) -> RunRecord:
    """The record of a run that an error ended: the cells that are in the cache, and the error as every other's reason."""
    ctx = RunContext.of(experiment, settings)
    return _record(
        ctx, settings, [_finished(ctx, cell) or _failed(cell, f"the run ended: {error}") for cell in experiment.cells]
    )


def _finished(ctx: RunContext, cell: Cell) -> CellRecord | None:
    """A cell's record if it is in the cache, and if what names it there can be known."""
    with contextlib.suppress(*PLUGIN_ERRORS):
        if ctx.cache.entry("cells", cell_key(ctx, cell)).has("record.json"):
            return CellRun(ctx, cell, lambda *_: None).run()
    return None


def _failed(cell: Cell, reason: str) -> CellRecord:
    return CellRecord(cell.id, cell.name, cell.bits, cell.variant, cell.seed, FAILED, reason)


def _protocol(ctx: RunContext) -> dict[str, Any]:
    """What was held equal; of a model or extractor that cannot be had, what the recipe says of it."""
    try:
        return protocol(ctx)
    except PLUGIN_ERRORS:
        e = ctx.experiment
        return {"model": e.model.name, "steps": e.sampling.steps, "images": e.sampling.images, "image seed": e.sampling.seed}


def _record(ctx: RunContext, settings: Settings, cells: list[CellRecord]) -> RunRecord:
    """The record of all cells."""
    e = ctx.experiment
    record = RunRecord(
        name=e.name,
        title=e.title,
        paper=e.paper,
        baseline=e.baseline,
        digest=e.digest,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=environment(settings),
        protocol=_protocol(ctx),
        cells=cells,
        methods=describe_methods(e.cells),
        published=[
            {"title": t.title, "source": t.source, "rows": [vars(row) | {"metrics": dict(row.metrics)} for row in t.rows]}
            for t in e.published
        ],
        recipe=dict(e.raw),
    )
    return attach_comparisons(record)


def environment(settings: Settings) -> dict[str, Any]:
    """What computed the numbers; "arithmetic" stands there only where it is not plain float32."""
    arithmetic = arithmetic_words(torch.device(settings.device))
    return {
        "ptqbench": __version__,
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
        **hardware(settings.device),
        "device": settings.device,
        "workers": settings.workers,
        "threads": settings.threads,
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        **({"arithmetic": arithmetic} if arithmetic != FLOAT32 else {}),
    }


def previews(experiment: Experiment, settings: Settings) -> list[tuple[str, Tensor]]:
    """The first images of every finished cell of the first calibration seed: (label, uint8 (k, C, H, W))."""
    ctx = RunContext.of(experiment, settings)
    first = min((cell.seed for cell in experiment.cells if cell.method), default=0)
    rows = []
    for cell in experiment.cells:
        entry = ctx.cache.entry("cells", cell_key(ctx, cell))
        if (cell.method is None or cell.seed == first) and entry.has("preview.safetensors"):
            label = cell.name if cell.method is None else f"{cell.name} {cell.bits} {cell.variant}".strip()
            rows.append((label, entry.load_tensors("preview.safetensors")["images"]))
    return rows


def tracebacks(experiment: Experiment, settings: Settings) -> dict[str, str]:
    """The traceback of every cell that failed and did not succeed since, by the cell's id."""
    ctx = RunContext.of(experiment, settings)
    entries = {cell.id: ctx.cache.entry("cells", cell_key(ctx, cell)) for cell in experiment.cells}
    failed = {name: entry for name, entry in entries.items() if entry.has(TRACEBACK) and not entry.has("record.json")}
    return {name: entry.load_json(TRACEBACK) for name, entry in failed.items()}
