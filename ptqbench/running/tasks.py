"""The units of work that processes share, as a graph: what cells share first, then the cells."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ptqbench.failures import PLUGIN_ERRORS, blamed, reason_of
from ptqbench.fitting.quantize import Stage
from ptqbench.measuring.features import REFERENCE_TASKS, image_features, reference_features, wanted_outputs
from ptqbench.recipe.experiment import Cell, Method
from ptqbench.results.costs import FAILED
from ptqbench.results.record import CellRecord
from ptqbench.roles.executor import Task
from ptqbench.running.cell import CellRun, cell_key, cell_quantizer
from ptqbench.running.forecast import Forecast
from ptqbench.sampling.images import FULL, generate, image_shards
from ptqbench.sampling.reference import calibration_key, calibration_set, probe_states, trajectory_shard, trajectory_shards
from ptqbench.stage.cache import CacheWriteError, Costs
from ptqbench.stage.context import RunContext
from ptqbench.stage.stages import Tell

SPLIT = 60.0
"""Seconds: a cell's images are divided among tasks that take at least this long, since each has to read the cell's weights."""

OF_CELLS = ("calibration", "fit", "sample")
"""Kinds of tasks that do part of a cell's work before it: whatever fails there, the cell meets again and tells."""


def reference_tasks(ctx: RunContext, seconds: float = 0.0) -> list[Task]:
    """Full-precision work that all cells share, forecast to take `seconds`."""
    seeds = sorted({cell.seed for cell in ctx.experiment.cells if cell.method})
    tasks = [
        Task("trajectories", i, seed, f"calibration trajectories, seed {seed}")
        for seed in seeds
        for i in range(len(trajectory_shards(ctx)))
    ]
    images = [Task("images", i, label="full-precision images") for i in range(len(image_shards(ctx)))]
    tasks += [*images, Task("probe", label="held-out trajectories")]
    if wanted_outputs(ctx):
        # The size of real images is that of generated ones.
        after = frozenset({images[0].name})
        tasks += [Task("features", i, label="features of real images", after=after) for i in range(_reference_tasks(ctx))]
    return [dataclasses.replace(task, seconds=seconds / len(tasks)) for task in tasks]


def _reference_tasks(ctx: RunContext) -> int:
    return 1 if ctx.experiment.evaluation.reference is None else REFERENCE_TASKS


def cell_tasks(ctx: RunContext) -> list[Task]:
    """One task per cell, in the recipe's order, without what comes before it."""
    return [Task("cell", i, cell.seed, cell.id) for i, cell in enumerate(ctx.experiment.cells)]


@dataclass(frozen=True)
class Shard:
    """A run's part of a comparison: the `index`-th of `count`, from 0."""

    index: int = 0
    count: int = 1

    def cells(self, ctx: RunContext) -> list[Task]:
        """Its cells, the same in every process. Those that begin with the same fit stay together where all shards get some."""
        if self.count == 1:
            return cell_tasks(ctx)
        groups: dict[str, list[Task]] = {}
        for task in cell_tasks(ctx):
            fits = [stage.key for stage in stages_of(ctx, ctx.experiment.cells[task.index]) if stage.phase]
            groups.setdefault(fits[0] if fits else task.label, []).append(task)
        chosen = list(groups.values()) if len(groups) >= self.count else [[task] for task in cell_tasks(ctx)]
        return [task for group in chosen[self.index :: self.count] for task in group]

    def rotated(self, tasks: list[Task]) -> list[Task]:
        """Work that all shards share, begun by each in another place, so that they find it done rather than in work."""
        start = self.index * len(tasks) // self.count
        return [*tasks[start:], *tasks[:start]]


WHOLE = Shard()
"""All of a comparison."""


def run_tasks(
    ctx: RunContext,
    cells: list[Task],
    doomed: Collection[str],
    pending: Collection[str],
    forecast: Forecast | None,
    shard: Shard = WHOLE,
) -> list[Task]:
    """All tasks of a run that does these cells, each after those that it needs.

    `doomed` cells (by id) are sure to fail, and tell it in tasks of their own before all others; `pending` ones are not in the
    cache.
    """
    shared = shard.rotated(reference_tasks(ctx, forecast.shared if forecast else 0.0))
    early = [dataclasses.replace(task, first=True) for task in cells if task.label in doomed]
    done = [task for task in cells if task.label not in pending]
    rest = [task for task in cells if task not in early and task not in done]
    measured = frozenset(task.name for task in shared if task.kind != "trajectories")
    fitted = quantizing_tasks(ctx, rest, forecast)
    late = [dataclasses.replace(task, after=task.after | measured) if task.kind == "cell" else task for task in fitted]
    needed = measured.union(*(task.after for task in late))
    return [*early, *done, *(task for task in shared if task.name in needed), *late]


def quantizing_tasks(ctx: RunContext, cells: list[Task], forecast: Forecast | None = None) -> list[Task]:
    """Tasks of cells after those that do a part of their work: for each calibration set, for stages that several cells begin
    with, and for the images of a cell in parts, where they take long."""
    graph = _Quantizing(ctx, {task.index: stages_of(ctx, ctx.experiment.cells[task.index]) for task in cells}, forecast)
    for task in cells:
        graph.add(task)
    return list(graph.tasks.values())


def stages_of(ctx: RunContext, cell: Cell) -> list[Stage]:
    """The stages of a cell's quantization; none where it has no method, or one that fails before any."""
    if cell.method is None:
        return []
    try:
        return cell_quantizer(ctx, cell, Costs(), lambda *_: None).stages
    except PLUGIN_ERRORS:
        return []  # the cell itself tells it


class _Quantizing:
    """Collects the tasks of cells, whose `stages` are given by index; tasks that several need are there once."""

    def __init__(self, ctx: RunContext, stages: Mapping[int, list[Stage]], forecast: Forecast | None) -> None:
        self.ctx, self.stages, self.forecast = ctx, stages, forecast
        self.tasks: dict[str, Task] = {}
        self.users: dict[str, list[int]] = {}
        for index, found in stages.items():
            for stage in found:
                self.users.setdefault(stage.key, []).append(index)

    def add(self, task: Task) -> None:
        """A cell's task, after all that comes before it."""
        cell, found = self.ctx.experiment.cells[task.index], self.stages[task.index]
        needs = frozenset[str]()
        if cell.method is not None:
            needs = self._calibration(task, cell.method, sampled=any(stage.sampled for stage in found))
        if self.forecast is not None:
            task = dataclasses.replace(task, seconds=self.forecast.cells[cell.id])
        for i, stage in enumerate(found):
            users, following = self.users[stage.key], self.users[found[i + 1].key] if i + 1 < len(found) else []
            if len(users) > 1 and users != following:
                # Weights alone are the same for all seeds, and wait for no samples.
                sampled = any(each.sampled for each in found[: i + 1])
                seed = self.ctx.experiment.cells[users[0]].seed
                after = task.after | needs if sampled else task.after
                task = self._before(task, Task("fit", users[0], seed, f"{cell.id}, {stage.name}", part=i + 1, after=after))
        task = dataclasses.replace(task, after=task.after | needs)
        images = self.forecast.images[cell.id] if self.forecast else 0.0
        parts = min(len(image_shards(self.ctx)), int(images / SPLIT))
        if cell.method is not None and parts > 1:
            fit = Task("fit", task.index, cell.seed, f"{cell.id}, all stages", after=task.after)
            task = self._split(self._before(task, fit), parts)
        self.tasks[task.name] = task

    def _calibration(self, task: Task, method: Method, *, sampled: bool) -> frozenset[str]:
        """The calibration set, or trajectories alone, which sampler hooks are fitted on."""
        shards = range(len(trajectory_shards(self.ctx)))
        after = frozenset(Task("trajectories", i, task.seed).name for i in shards)
        if not sampled:
            return after
        drawn = Task("calibration", task.index, task.seed, f"calibration samples of {task.label}", after=after)
        return frozenset({self.tasks.setdefault(calibration_key(self.ctx, method, task.seed), drawn).name})

    def _before(self, task: Task, fit: Task) -> Task:
        """The cell's task after one that does its first stages. What cells share is forecast with the first of them."""
        images = self.forecast.images[task.label] if self.forecast else 0.0
        seconds = task.seconds
        if fit.name not in self.tasks:
            self.tasks[fit.name] = dataclasses.replace(fit, seconds=max(0.0, seconds - images))
            seconds = min(seconds, images)
        return dataclasses.replace(task, after=frozenset({fit.name}), seconds=seconds)

    def _split(self, task: Task, parts: int) -> Task:
        """The cell's task after those that draw its images, and describe them."""
        count = -(-len(image_shards(self.ctx)) // parts)
        drawn = [
            Task("sample", task.index, task.seed, f"{task.label}, images", task.seconds / parts, start, task.after, count=count)
            for start in range(0, len(image_shards(self.ctx)), count)
        ]
        self.tasks |= {part.name: part for part in drawn}
        return dataclasses.replace(task, after=frozenset(part.name for part in drawn), seconds=0.0)


def pending(ctx: RunContext) -> set[str]:
    """The cells, by id, that still have to be computed."""
    cells = ctx.experiment.cells
    return {cell.id for cell in cells if not ctx.cache.entry("cells", cell_key(ctx, cell)).has("record.json")}


def perform(ctx: RunContext, task: Task, tell: Tell) -> dict[str, Any] | None:
    """Do a task; a cell's record comes back as plain data, and "status" and "reason" of what failed before a cell.

    Raises `PluginError` if a plugin cannot do its part in what all cells share.
    """
    # Here, in the worker: the way of an error, and errors that cannot be pickled, never reach the other process.
    with blamed(task.label):
        if task.kind not in OF_CELLS:
            return _perform(ctx, task, tell)
        try:
            _prepare(ctx, task, tell)
        except CacheWriteError:
            raise  # every other task would meet it as well
        except PLUGIN_ERRORS as error:
            return {"status": FAILED, "reason": reason_of(error)}
        return None


def _prepare(ctx: RunContext, task: Task, tell: Tell) -> None:
    """A part of a cell's work."""
    cell, costs = ctx.experiment.cells[task.index], Costs()
    if task.kind == "calibration" and cell.method is not None:
        calibration_set(ctx, costs, cell.method, cell.seed)
    elif task.kind == "fit" and task.part:
        cell_quantizer(ctx, cell, costs, tell).run(task.part)
    else:
        made = CellRun(ctx, cell, tell).calibrated()
        pieces = image_shards(ctx)[task.part : task.part + task.count] if task.kind == "sample" else []
        for i, ids in enumerate(pieces):
            tell(f"images {ids.stop}/{ctx.experiment.sampling.images}", i / len(pieces))
            generate(ctx, costs, made.state, lambda: made.predictor, ids)
            if wanted_outputs(ctx):
                image_features(ctx, costs, made.state, lambda: made.predictor, ids)


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
