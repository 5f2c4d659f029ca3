"""Running an experiment: shared stages, then cells, then the record."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import sys
from collections.abc import Callable
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
from ptqbench.roles.executor import Ended, Executor, Report, Task
from ptqbench.running.cell import TRACEBACK, CellRun, cell_key
from ptqbench.running.executor import crew_of, execute, local, with_room
from ptqbench.running.forecast import Forecast, forecast
from ptqbench.running.preflight import preflight
from ptqbench.running.tasks import OF_CELLS, WHOLE, Shard, pending, run_tasks
from ptqbench.stage.context import RunContext, Settings
from ptqbench.stage.machine import PACKAGES, hardware
from ptqbench.stage.precision import FLOAT32, arithmetic_words
from ptqbench.version import __version__

MEMORY = "out of memory is the usual cause: smaller batches need less (sampling.batch, calibration.batch)"

Announce = Callable[[list[Task]], None]
"""Is told the tasks before they start."""


@blamed()
def run_experiment(
    experiment: Experiment, settings: Settings, report: Report, announce: Announce, executor: Executor | None = None
) -> RunRecord:
    """Compute whatever is not in the cache, on this machine unless an `executor` is given, and return the record of the whole
    comparison. `report` is told how tasks go. A cell that fails becomes a failed record.

    Raises `UserError` where no cell could go on: a cache that cannot keep results, a component that cannot be used or fails
    in what all cells share (`PluginError`).
    """
    ctx = _checked(experiment, settings)
    if not pending(ctx):
        # Nothing to compute: reading the records needs neither workers nor the model.
        return _record(ctx, settings, [CellRun(ctx, cell, lambda *_: None).run() for cell in experiment.cells])
    records = _compute(ctx, settings, WHOLE, report, announce, executor)
    return _record(ctx, settings, [records[i] for i in sorted(records)])


@blamed()
def run_shard(
    experiment: Experiment,
    settings: Settings,
    shard: Shard,
    report: Report,
    announce: Announce,
    executor: Executor | None = None,
) -> list[CellRecord]:
    """Compute what falls to one shard, beside others on the same cache; `run_experiment` collects. Raises as that does."""
    records = _compute(_checked(experiment, settings), settings, shard, report, announce, executor)
    return [records[i] for i in sorted(records)]


def _checked(experiment: Experiment, settings: Settings) -> RunContext:
    check_classes(experiment.components())
    ctx = RunContext.of(experiment, settings)
    check_metrics(ctx)
    return ctx


def _compute(
    ctx: RunContext, settings: Settings, shard: Shard, report: Report, announce: Announce, executor: Executor | None
) -> dict[int, CellRecord]:
    """The records of a shard's cells, by index."""
    found = preflight(ctx)
    found.require_shared()
    cells = shard.cells(ctx)
    # A plugin's author gets the traceback, which the cell's own task keeps. Other cells that cannot be done cost nothing.
    refused = {name: str(error) for name, error in found.cells.items() if not isinstance(error, PluginError)}
    records = {
        task.index: _failed(ctx.experiment.cells[task.index], refused[task.label]) for task in cells if task.label in refused
    }
    expected = _forecast(ctx)
    wanted, doomed = [task for task in cells if task.label not in refused], found.cells.keys() - refused.keys()
    tasks = run_tasks(ctx, wanted, doomed, pending(ctx), expected, shard)
    hopeless = [task for task in cells if task.label in refused]
    announce([*hopeless, *tasks])
    for task in hopeless:
        report(task, FAILED, 1.0)
    workers = with_room(settings, expected.memory_mib if expected else 0.0)
    crew = crew_of(ctx, settings, report, workers=workers, memory_mib=expected.memory_mib if expected else 0.0)
    for task, result in execute(executor or local(), crew, tasks):
        if task.kind == "cell":
            cell = ctx.experiment.cells[task.index]
            records[task.index] = _lost(cell, result) if isinstance(result, Ended) else CellRecord.from_dict(result)
        elif isinstance(result, Ended) and task.kind not in OF_CELLS:
            raise UserError(f"{_process(result)} while it worked on {task.label}", MEMORY)
    return records


def _lost(cell: Cell, end: Ended) -> CellRecord:
    return _failed(cell, f"{_process(end)} while it worked on this cell\n{MEMORY}")


def _process(end: Ended) -> str:
    return f"a process {end.lost}{', alone as well as beside others,' if end.crowded else ''}"


def _forecast(ctx: RunContext) -> Forecast | None:
    """What tasks will take, where that can be told."""
    try:
        return forecast(ctx)
    except PLUGIN_ERRORS:
        return None  # what is wrong is told by the task that it stops


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
