"""The training noise schedule in a scheduler's configuration, in double precision."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from ptqbench.errors import UserError
from ptqbench.roles.model import PredictionType
from ptqbench_diffusers.layout import read_json

PREDICTIONS: tuple[PredictionType, ...] = get_args(PredictionType)
_LINEAR, _SCALED, _COSINE, _SIGMOID = "linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"
_KNOWN = (_LINEAR, _SCALED, _COSINE, _SIGMOID)


@dataclass(frozen=True)
class Noise:
    """`alphas_cumprod` (T,) float64, and what the denoiser predicts: one of `PREDICTIONS`."""

    alphas_cumprod: Tensor
    prediction: PredictionType


def read_noise(path: Path) -> Noise:
    """The schedule in a scheduler_config.json. Raises `UserError` if it is none of the known discrete schedules."""
    config = _with_defaults(read_json(path), path)
    named = str(config.get("prediction_type") or "epsilon")
    prediction = next((kind for kind in PREDICTIONS if kind == named), None)
    if prediction is None:
        known = f"known: {', '.join(PREDICTIONS)}"
        raise UserError(f"{path}: the prediction type {named!r} is not supported", known)
    if config.get("rescale_betas_zero_snr"):
        raise UserError(
            f"{path}: rescale_betas_zero_snr leaves no signal at the last timestep, where noise cannot be told apart",
            "use a model that was trained without it",
        )
    try:
        found = betas(config)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} does not describe a noise schedule: {error}", "see the plugin's README") from error
    if found.dim() != 1 or not len(found) or not bool(((found > 0) & (found < 1)).all()):
        raise UserError(f"{path}: every beta must lie between 0 and 1", "check the schedule's bounds or trained_betas")
    return Noise(torch.cumprod(1.0 - found, dim=0), prediction)


def betas(config: dict[str, Any]) -> Tensor:
    """The betas (T,) float64 of a complete configuration. Raises `ValueError` for an unknown schedule."""
    if config.get("trained_betas") is not None:
        return torch.tensor(config["trained_betas"], dtype=torch.float64)
    steps, law = int(config["num_train_timesteps"]), config["beta_schedule"]
    start, end = float(config["beta_start"]), float(config["beta_end"])
    if law == _LINEAR:
        return torch.linspace(start, end, steps, dtype=torch.float64)
    if law == _SCALED:
        return torch.linspace(math.sqrt(start), math.sqrt(end), steps, dtype=torch.float64).square()
    if law == _SIGMOID:
        return torch.linspace(-6, 6, steps, dtype=torch.float64).sigmoid() * (end - start) + start
    if law == _COSINE:
        bar = [math.cos((i / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(steps + 1)]
        return torch.tensor([min(1 - b / a, 0.999) for a, b in pairwise(bar)], dtype=torch.float64)
    raise ValueError(f"unknown beta_schedule {law!r}; known are {', '.join(_KNOWN)}")


def _with_defaults(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """What the file leaves out is the default of the scheduler class that it names: classes differ in theirs."""
    import diffusers  # slow to import: only when a model is loaded

    name = str(config.get("_class_name"))
    scheduler = getattr(diffusers, name, None) if name.endswith("Scheduler") else None
    known = inspect.signature(scheduler).parameters if isinstance(scheduler, type) else {}
    if "beta_schedule" not in known:
        raise UserError(
            f"{path}: {name} has no discrete noise schedule", "use a pipeline with a scheduler such as DDPMScheduler"
        )
    defaults = {key: value.default for key, value in known.items() if value.default is not inspect.Parameter.empty}
    if config.get("predict_epsilon") is False:
        # How early versions spelt it.
        defaults["prediction_type"] = "sample"
    return defaults | config
