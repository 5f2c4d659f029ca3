"""The units of work that processes share: full-precision shards first, then cells."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from ptqbench.failures import blamed
from ptqbench.measuring.features import REFERENCE_TASKS, image_features, reference_features, wanted_outputs
from ptqbench.results.record import CellRecord
from ptqbench.running.cell import CellRun, cell_key
from ptqbench.sampling.images import FULL, generate, image_shards
from ptqbench.sampling.reference import probe_states, trajectory_shard, trajectory_shards
from ptqbench.stage.cache import Costs
from ptqbench.stage.context import RunContext
from ptqbench.stage.stages import Tell


@dataclass(frozen=True)
class Task:
    """Something a worker can do with nothing but the experiment: `index` and `seed` say which shard or cell.

    `seconds` are those that one process is forecast to take, 0 where that is not known.
    """

    kind: Literal["trajectories", "images", "features", "probe", "cell"]
    index: int = 0
    seed: int = 0
    label: str = ""
    seconds: float = field(default=0.0, compare=False)


def reference_tasks(ctx: RunContext) -> list[Task]:
    """Full-precision work that all cells share."""
    seeds = sorted({cell.seed for cell in ctx.experiment.cells if cell.method})
    tasks = [
        Task("trajectories", i, seed, f"calibration trajectories, seed {seed}")
        for seed in seeds
        for i in range(len(trajectory_shards(ctx)))
    ]
    tasks += [Task("images", i, label="full-precision images") for i in range(len(image_shards(ctx)))]
    if wanted_outputs(ctx):
        tasks += [Task("features", i, label="features of real images") for i in range(_reference_tasks(ctx))]
    return [*tasks, Task("probe", label="held-out trajectories")]


def _reference_tasks(ctx: RunContext) -> int:
    return 1 if ctx.experiment.evaluation.reference is None else REFERENCE_TASKS


def cell_tasks(ctx: RunContext) -> list[Task]:
    """One task per cell, in the recipe's order: cells that share a stage are far apart, so that none waits for another."""
    return [Task("cell", i, cell.seed, cell.id) for i, cell in enumerate(ctx.experiment.cells)]


def pending(ctx: RunContext) -> bool:
    """Whether any cell still has to be computed."""
    return any(not ctx.cache.entry("cells", cell_key(ctx, cell)).has("record.json") for cell in ctx.experiment.cells)


def perform(ctx: RunContext, task: Task, tell: Tell) -> dict[str, Any] | None:
    """Do a task; a cell's record comes back as plain data. Raises `PluginError` if a plugin cannot do its part in it."""
    # Here, in the worker: the way of an error, and errors that cannot be pickled, never reach the other process.
    with blamed(task.label):
        return _perform(ctx, task, tell)


def _perform(ctx: RunContext, task: Task, tell: Tell) -> dict[str, Any] | None:
    costs = Costs()
    if task.kind == "trajectories":
        trajectory_shard(ctx, costs, task.seed, trajectory_shards(ctx)[task.index])
    elif task.kind == "images":
        ids = image_shards(ctx)[task.index]
        generate(ctx, costs, FULL, ctx.predictor, ids)
        if wanted_outputs(ctx):
            image_features(ctx, costs, FULL, ctx.predictor, ids)
    elif task.kind == "features":
        reference_features(ctx, task.index, _reference_tasks(ctx))
    elif task.kind == "probe":
        probe_states(ctx, costs)
    else:
        record: CellRecord = CellRun(ctx, ctx.experiment.cells[task.index], tell).run()
        return dataclasses.asdict(record)
    return None
