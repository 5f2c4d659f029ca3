"""What a method quantizes: a denoiser with all that calibration may ask for, from a recipe's model or from anywhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ptqbench.errors import CellFailedError
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import Probe
from ptqbench.recipe.experiment import Method
from ptqbench.sampling.calibrate import CalibrationSet
from ptqbench.sampling.reference import calibration_key, calibration_set, denoising_error, evaluate_samples
from ptqbench.stage.cache import Cache, Costs
from ptqbench.stage.context import RunContext


def _no_sampler() -> Tensor:
    raise CellFailedError("no sampler is known whose gains could weigh errors", "choose options that do without gains")


@dataclass(frozen=True)
class Subject:
    """A full-precision denoiser, and what the stages of its quantization read and where they keep their results.

    `timesteps` (S,) are those of the sampling steps, noisiest first. `calibration` gives the calibration set, which
    `calibration_key` names; `predict(calibration, q, index)` evaluates a quantized denoiser, or (None) full precision, on the
    samples at these places, of which `batch` are run at a time; `denoising_error` is full precision's, (S,). `key` names the
    denoiser and what computes, and is part of every stage's key in `cache`. `gains` (S,) are the sampler's, if one is known.
    """

    denoiser: nn.Module
    probe: Probe
    timesteps: Tensor
    calibration: Callable[[], CalibrationSet]
    calibration_key: str
    predict: Callable[[CalibrationSet, QuantizedDenoiser | None, Tensor], Tensor]
    denoising_error: Callable[[], Tensor]
    batch: int
    device: torch.device
    cache: Cache
    key: list[Any]
    gains: Callable[[], Tensor] = _no_sampler

    @classmethod
    def of_run(cls, ctx: RunContext, method: Method, seed: int, costs: Costs) -> Subject:
        """The model of a run, calibrated on what the method's sampler chooses from its trajectories."""
        return cls(
            denoiser=ctx.model.denoiser,
            probe=ctx.probe,
            timesteps=ctx.schedule.timesteps,
            calibration=partial(calibration_set, ctx, costs, method, seed),
            calibration_key=calibration_key(ctx, method, seed),
            predict=partial(_predict, ctx),
            denoising_error=partial(denoising_error, ctx, Costs(), seed),
            batch=ctx.experiment.calibration.batch,
            device=ctx.device,
            cache=ctx.cache,
            key=ctx.base_key,
            gains=lambda: ctx.schedule.gains,
        )


def _predict(ctx: RunContext, calibration: CalibrationSet, q: QuantizedDenoiser | None, index: Tensor) -> Tensor:
    predictor = ctx.predictor() if q is None else ctx.predictor(q.module, q.context)
    return evaluate_samples(ctx, predictor, calibration, index)
