"""What a run will take: time from a timed forward pass and the planned work, memory and disk from shapes."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from ptqbench.engine.context import CAPTURE_BUDGET, RunContext
from ptqbench.engine.hooks import fitting_trajectories
from ptqbench.engine.images import image_shards
from ptqbench.engine.quantize import has_work, make_plan, make_units
from ptqbench.recipe.experiment import Cell, Method
from ptqbench.roles.reconstruction import Phase, Reconstruction

BACKWARD = 3.0
"""A training step on a unit takes about this many forward passes."""
FAKE_QUANTIZATION = 1.15
"""A forward pass with quantized activations takes about this many plain ones."""
PROCESS_MIB = 650
"""Resident memory of a process that has imported torch and diffusers."""


@dataclass(frozen=True)
class Forecast:
    """Seconds of one process for each cell (by id) and for the shared stages; MiB of memory per process and of disk."""

    cells: dict[str, float]
    shared: float
    memory_mib: float
    disk_mib: float

    def wall(self, workers: int) -> float:
        """Seconds on `workers` processes that share the work evenly; never less than the longest cell."""
        total = (self.shared + sum(self.cells.values())) / workers
        return max(total, max(self.cells.values(), default=0.0))


def forecast(ctx: RunContext) -> Forecast:
    """Forecast a run from scratch. Stages that several cells share are counted once, at the first of them."""
    e, steps = ctx.experiment, ctx.schedule.steps
    second = seconds_per_evaluation(ctx)
    seeds = len({cell.seed for cell in e.cells if cell.method})
    evaluations = (e.calibration.trajectories * seeds + e.sampling.images + e.evaluation.probes) * steps
    done: set[str] = set()
    cells = {cell.id: second * _cell_evaluations(ctx, cell, done) for cell in e.cells}
    return Forecast(cells, second * evaluations, _memory(ctx), _disk(ctx, seeds))


def seconds_per_evaluation(ctx: RunContext) -> float:
    """Seconds for one sample through the full-precision denoiser, from a timed mini-batch."""
    size = min(32, ctx.experiment.sampling.batch)
    x = torch.randn(size, *ctx.model.shape, generator=torch.Generator().manual_seed(0)).to(ctx.device)
    step = torch.zeros(size, dtype=torch.int64)
    cond = ctx.to_device(dict(ctx.model.conditions(range(size))))
    predictor = ctx.predictor()
    with torch.inference_mode():
        predictor(x, step, cond)
        start = time.perf_counter()
        for _ in range(3):
            # Reading a value back waits for the device.
            predictor(x, step, cond).sum().item()
    return (time.perf_counter() - start) / 3 / size


def _cell_evaluations(ctx: RunContext, cell: Cell, done: set[str]) -> float:
    """The cell's own work in units of one full-precision evaluation of one sample."""
    if cell.method is None:
        return 0.0
    e, steps = ctx.experiment, ctx.schedule.steps
    per_image = FAKE_QUANTIZATION if not cell.method.activations.off else 1.0
    total = per_image * (e.sampling.images + e.evaluation.probes) * steps
    # Hooks are fitted on predictions of both networks.
    total += sum((1 + per_image) * fitting_trajectories(ctx, bound.create()) * steps for bound in cell.method.hooks)
    reconstruction: Reconstruction = cell.method.reconstruction.create()
    for phase in reconstruction.phases:
        if not has_work(phase, cell.method):
            continue
        key = f"{cell.method.name}/{cell.variant}/{cell.seed}/{phase.name}"
        if phase.activations or f"{key}/{cell.method.weights.bits}" not in done:
            total += _phase_evaluations(ctx, cell.method, reconstruction, phase)
        done.add(f"{key}/{cell.method.weights.bits}")
    return total


def _phase_evaluations(ctx: RunContext, method: Method, reconstruction: Reconstruction, phase: Phase) -> float:
    if method.partitioner is None:
        return 0.0
    units = len(make_units(ctx, method.partitioner.create()))
    iterations, size = reconstruction.work(phase)
    captures = ctx.experiment.calibration.samples * (1 + (units / 2 if phase.inputs == "quantized" else 0))
    # All units together cost about one network; each gets its own iterations.
    return captures + iterations * size * BACKWARD * method.weighter.create().cost


def _memory(ctx: RunContext) -> float:
    parameters = sum(p.numel() * p.element_size() for p in ctx.model.denoiser.parameters())
    return PROCESS_MIB + (4 * parameters + 1.5 * CAPTURE_BUDGET) / 2**20


def _disk(ctx: RunContext, seeds: int) -> float:
    e, steps = ctx.experiment, ctx.schedule.steps
    state = 4 * ctx.model.shape[0] * ctx.model.shape[1] * ctx.model.shape[2]
    images = sum(len(ids) for ids in image_shards(ctx)) * state / 4 * len(e.cells)
    weights = sum(2 * p.numel() for p in ctx.model.denoiser.parameters()) * len(e.cells) * 2
    trajectories = seeds * e.calibration.trajectories * (steps + 1) * state
    sets = len(e.cells) * e.calibration.samples * state
    return (trajectories + sets + 2 * e.evaluation.probes * steps * state + images + weights) / 2**20


def cell_ledger(ctx: RunContext, cell: Cell) -> list[dict[str, object]]:
    """The bit ledger that a cell will have, before anything is computed."""
    return [] if cell.method is None else make_plan(ctx, cell.method).ledger(ctx.probe)
