"""Timing the parts of a run on this machine: one evaluation of the denoiser, one decoded image, its features."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ptqbench.errors import UserError
from ptqbench.fitting.method import MethodFactory, make_plan
from ptqbench.measuring.features import wanted_outputs
from ptqbench.quant.layer import QuantLayer, StepContext
from ptqbench.recipe.experiment import Method
from ptqbench.sampling.rng import normal
from ptqbench.sampling.sample import to_bytes
from ptqbench.stage.context import RunContext
from ptqbench.stage.memory import peak_memory_mib, reset_peak_memory

REPEATS = 3
LONG = 1.0
"""Seconds of a call beside which what only a first call does is next to nothing."""
ENOUGH = 0.2
"""Seconds of later calls after which no more of them are made."""
IMAGES = 4
"""Images that are decoded and described for a timing: a decoder of large images takes seconds for each."""

WEIGHTS = 2**16
"""A layer of so many weights is large enough for a timing."""


@dataclass(frozen=True)
class ImageTiming:
    """What one image takes after sampling: seconds to decode and (0 where no metric reads any) for its features.

    `size` is its number of 8-bit values, `features_mib` the memory that the extractor needs. `why` says why features were
    not timed, in a user's words; "" if they were, or if none are needed.
    """

    size: int
    decode: float
    features: float = 0.0
    features_mib: float = 0.0
    why: str = ""


def seconds_per_evaluation(ctx: RunContext) -> float:
    """Seconds for one sample through the full-precision denoiser, from a timed mini-batch."""
    size = min(32, ctx.experiment.sampling.batch)
    x = _latents(ctx, size)
    step = torch.zeros(size, dtype=torch.int64, device="cpu")
    model, predictor = ctx.model, ctx.predictor()
    cond = ctx.to_device(dict(model.conditions(range(size), model.branches[0])))
    with torch.inference_mode():
        # Reading a value back waits for the device.
        return _seconds(lambda: predictor.evaluate(x, step, cond).sum().item()) / size


def seconds_per_weight(ctx: RunContext, method: Method) -> float:
    """Seconds for the range of a weight and its rounding, from those of one quantized layer that is large enough."""
    sizes = {layer.name: math.prod(layer.weight_shape) for layer in ctx.probe.layers}
    plans = [plan for plan in make_plan(ctx.probe, method).layers if plan.weight is not None]
    if not plans:
        return 0.0
    large = [plan for plan in plans if sizes[plan.name] >= WEIGHTS] or [max(plans, key=lambda plan: sizes[plan.name])]
    plan = min(large, key=lambda plan: sizes[plan.name])
    factory, inner = MethodFactory(method.weights, method.activations), ctx.model.denoiser.get_submodule(plan.name)

    def search() -> None:
        QuantLayer(inner, plan, factory, StepContext(1)).to(ctx.device).find_weight_grids()

    return _seconds(search) / sizes[plan.name]


def time_images(ctx: RunContext) -> ImageTiming:
    """Decode a few latents and, if a metric reads features, send the images through the recipe's extractor.

    Weights that are not on this machine, or an extractor for other images, are no error here: a forecast can do without.
    """
    latents = _latents(ctx, min(IMAGES, ctx.experiment.sampling.batch))
    with torch.inference_mode():
        images = to_bytes(ctx.model.decode(latents))
        decode = _seconds(lambda: to_bytes(ctx.model.decode(latents))) / len(images)
    size = images[0].numel()
    if not wanted_outputs(ctx):
        return ImageTiming(size, decode)
    before = peak_memory_mib()
    reset_peak_memory()
    try:
        features = _seconds(lambda: ctx.loaded_extractor.extract(images)) / len(images)
    except UserError as error:
        return ImageTiming(size, decode, why=error.message)
    return ImageTiming(size, decode, features, max(0.0, peak_memory_mib() - before))


def _latents(ctx: RunContext, size: int) -> Tensor:
    return normal((size, *ctx.model.shape), torch.Generator("cpu").manual_seed(0)).to(ctx.device)


def _seconds(run: Callable[[], object]) -> float:
    """Seconds of one call. The first of several does not count, and one that takes long is enough."""
    start = time.perf_counter()
    run()
    if (first := time.perf_counter() - start) >= LONG:
        return first
    spent, calls, start = 0.0, 0, time.perf_counter()
    while calls < REPEATS and spent < ENOUGH:
        run()
        spent, calls = time.perf_counter() - start, calls + 1
    return spent / calls
