"""What a run will take: time from a timed forward pass and the planned work, memory and disk from shapes."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ptqbench.boundary.build import build
from ptqbench.evaluate.intervals import BLOCKS
from ptqbench.evaluate.pictures import count_pictures
from ptqbench.fitting.hooks import fitting_trajectories
from ptqbench.fitting.method import make_plan, phases_with_work
from ptqbench.fitting.quality import SAMPLES
from ptqbench.measuring.features import KEPT_WIDTH, wanted_outputs
from ptqbench.measuring.protocol import shared_prompts
from ptqbench.quant.plan import Plan
from ptqbench.recipe.experiment import Cell, Method
from ptqbench.results.remarks import SHARED_PROMPTS
from ptqbench.roles.reconstruction import Phase, Reconstruction
from ptqbench.running.timing import seconds_per_evaluation, seconds_per_weight, time_images
from ptqbench.stage.context import CAPTURE_BUDGET, REFERENCE_SETTING, REPLAY_BUDGET, RunContext
from ptqbench.stage.spill import SPILL_FROM

BACKWARD = 3.0
"""A training step on a unit takes about this many forward passes."""
FAKE_QUANTIZATION = 1.15
"""A forward pass with quantized activations takes about this many plain ones."""
REPLAYED = 2.0
"""Recording all units of a network, quantized one by one, takes about this many passes where their outputs can be kept."""
LOOKS = 3
"""The loss of a unit is taken before its fit, after it, and hardened."""
SPARE = 3
"""At a time about one in so many layers' outputs has to be kept."""
PROCESS_MIB = 650
"""Resident memory of a process that has imported torch and diffusers."""


@dataclass(frozen=True)
class Forecast:
    """Seconds of one process for each cell (by id) and for the shared stages; MiB of memory per process and of disk.

    `features` are the seconds for features in all of them, `images` those of a cell (by id) for images and their features.
    `notes` say what is left out.
    """

    cells: dict[str, float]
    shared: float
    memory_mib: float
    disk_mib: float
    features: float = 0.0
    notes: tuple[str, ...] = ()
    images: Mapping[str, float] = field(default_factory=dict)

    def wall(self, workers: int) -> float:
        """Seconds on `workers` processes that share the work evenly; never less than the longest cell."""
        total = (self.shared + sum(self.cells.values())) / workers
        return max(total, max(self.cells.values(), default=0.0))


def forecast(ctx: RunContext) -> Forecast:
    """Forecast a run from scratch. Stages that several cells share are counted once, at the first of them.

    Raises `CellFailedError` for a cell that cannot be done.
    """
    e = ctx.experiment
    second, image = seconds_per_evaluation(ctx), time_images(ctx)
    seeds = len({cell.seed for cell in e.cells if cell.method})
    calls = ctx.schedule.steps * len(ctx.model.branches)
    evaluations = (e.calibration.trajectories * seeds + e.sampling.images + e.evaluation.probes) * calls
    real = real_images(ctx) if wanted_outputs(ctx) else 0
    after = e.sampling.images * (image.decode + image.features)
    done: set[str] = set()
    cells = {
        cell.id: second * _cell_evaluations(ctx, cell, done)
        + (_ranging(ctx, cell.method, done) + after if cell.method is not None else 0.0)
        for cell in e.cells
    }
    images = {c.id: second * _per_image(c.method) * e.sampling.images * calls + after if c.method else 0.0 for c in e.cells}
    recordings = _recordings(ctx)
    measured = len(e.cells) * e.sampling.images + real
    return Forecast(
        cells,
        second * evaluations + after + real * image.features,
        _memory(ctx, recordings) + image.features_mib,
        _disk(ctx, seeds, image.size, measured),
        measured * image.features,
        (*([f"features are not timed: {image.why}"] if image.why else []), *_spilled(recordings), *_shared_prompts(ctx)),
        images,
    )


def real_images(ctx: RunContext) -> int:
    """How many real images a comparison reads features of, counted without reading them where they are files."""
    path = ctx.experiment.evaluation.reference
    if path is not None:
        return count_pictures(path, REFERENCE_SETTING)
    images = ctx.source.reference_images()
    return 0 if images is None else len(images)


def _cell_evaluations(ctx: RunContext, cell: Cell, done: set[str]) -> float:
    """The cell's own work in units of one full-precision evaluation of one sample."""
    if cell.method is None:
        return 0.0
    e, calls = ctx.experiment, ctx.schedule.steps * len(ctx.model.branches)
    per_image = _per_image(cell.method)
    total = per_image * (e.sampling.images + e.evaluation.probes) * calls
    # Hooks are fitted on predictions of both networks.
    total += sum((1 + per_image) * fitting_trajectories(ctx, build(bound)) * calls for bound in cell.method.hooks)
    if not cell.method.activations.off:
        total += per_image * e.calibration.samples  # the ranges of all activations
    reconstruction: Reconstruction = build(cell.method.reconstruction)
    for phase in phases_with_work(reconstruction, cell.method):
        key = f"{cell.method.name}/{cell.variant}/{cell.seed}/{phase.name}"
        if phase.activations or f"{key}/{cell.method.weights.bits}" not in done:
            total += _phase_evaluations(ctx, cell.method, reconstruction, phase)
        done.add(f"{key}/{cell.method.weights.bits}")
    return total


def _ranging(ctx: RunContext, method: Method, done: set[str]) -> float:
    """Seconds for the ranges of all weights, unless an earlier cell has them."""
    key = f"ranges/{method.weights.quantizer.key}/{method.weights.range.key}/{method.weights.bits}/{method.passes}"
    if method.weights.off or key in done:
        return 0.0
    done.add(key)
    return seconds_per_weight(ctx, method) * sum(math.prod(layer.weight_shape) for layer in ctx.probe.layers)


def _per_image(method: Method) -> float:
    """An image's evaluations beside those of full precision."""
    return FAKE_QUANTIZATION if not method.activations.off else 1.0


def _phase_evaluations(ctx: RunContext, method: Method, reconstruction: Reconstruction, phase: Phase) -> float:
    if method.partitioner is None:
        return 0.0
    course = reconstruction.course(phase)
    passes = 1.0
    if phase.inputs != "full-precision":
        units = len(build(method.partitioner).units(ctx.model.denoiser, ctx.probe))
        # What finds no room is computed again, at the worst from the network's input for each unit.
        passes += min(units / 2, REPLAYED * max(1.0, _layer_outputs(ctx) / (SPARE * REPLAY_BUDGET)))
    samples = ctx.experiment.calibration.samples
    # All units together cost about one network; each is recorded, looked at, and gets its own iterations.
    once = samples * passes + LOOKS * min(samples, SAMPLES)
    return (once + course.iterations * course.batch * BACKWARD * build(method.weighter).cost) * (
        FAKE_QUANTIZATION if phase.activations else 1.0
    )


def _memory(ctx: RunContext, recordings: Sequence[int]) -> float:
    parameters = sum(p.numel() * p.element_size() for p in ctx.model.denoiser.parameters())
    kept = 2 * min(REPLAY_BUDGET, _layer_outputs(ctx))
    recorded = max(1.5 * CAPTURE_BUDGET, sum(min(size, SPILL_FROM) for size in recordings))
    return PROCESS_MIB + (4 * parameters + recorded + kept) / 2**20


def _recordings(ctx: RunContext) -> list[int]:
    """Bytes of what a unit is fitted on: its inputs from either network and its outputs, as large as any layer's."""
    cells = (cell.method for cell in ctx.experiment.cells)
    if not any(method and phases_with_work(build(method.reconstruction), method) for method in cells):
        return []
    each = [(layer.macs // math.prod(layer.weight_shape[1:]), layer.weight_shape) for layer in ctx.probe.layers]
    inputs, outputs = (max(found) for found in zip(*((n * shape[1] // shape[0], n) for n, shape in each), strict=True))
    return [4 * ctx.experiment.calibration.samples * values for values in (inputs, inputs, outputs)]


def _spilled(recordings: Sequence[int]) -> list[str]:
    size = sum(size for size in recordings if size >= SPILL_FROM)
    where = tempfile.gettempdir()
    return [f"each process needs up to {size / 2**30:.1f} GiB in {where} (TMPDIR) for what units are fitted on"] if size else []


def _shared_prompts(ctx: RunContext) -> list[str]:
    words = shared_prompts(ctx)
    return [f"{SHARED_PROMPTS}: {words}"] if words else []


def _layer_outputs(ctx: RunContext) -> int:
    """Bytes of what all layers give for the calibration samples, as a bound on what all units give."""
    values = sum(layer.macs // math.prod(layer.weight_shape[1:]) for layer in ctx.probe.layers)
    return 4 * ctx.experiment.calibration.samples * values


def _disk(ctx: RunContext, seeds: int, image: int, measured: int) -> float:
    """MiB of cache; `image` are an image's bytes, `measured` counts the images whose features are stored."""
    e, steps = ctx.experiment, ctx.schedule.steps
    state = 4 * math.prod(ctx.model.shape)
    images = e.sampling.images * image * len(e.cells)
    widths = [ctx.extractor.outputs()[name] for name in wanted_outputs(ctx)]
    # Of real images and of full precision: moments, and roots with all images and without each block.
    roots = sum(2 * (BLOCKS + 2) * 8 * width**2 for width in widths if width >= KEPT_WIDTH)
    features = measured * 4 * sum(widths) + roots
    weights = sum(2 * p.numel() for p in ctx.model.denoiser.parameters()) * len(e.cells) * 2
    trajectories = seeds * e.calibration.trajectories * (steps + 1) * state
    sets = len(e.cells) * e.calibration.samples * state
    return (trajectories + sets + 2 * e.evaluation.probes * steps * state + images + features + weights) / 2**20


def cell_ledger(ctx: RunContext, cell: Cell) -> list[dict[str, object]]:
    """The bit ledger that a cell will have, before anything is computed."""
    if cell.method is None:
        return []
    if cell.method.network is None:
        return make_plan(ctx.probe, cell.method).ledger(ctx.probe)
    rows = Plan.uniform(ctx.probe, None, None).ledger(ctx.probe)
    return [row | {"why": [f"left to {cell.method.network.name}"]} for row in rows]
