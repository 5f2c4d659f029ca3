"""The training noise schedule in a scheduler's configuration, in double precision."""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from ptqbench.errors import UserError
from ptqbench.roles.flow import alphas_of, shifted
from ptqbench.roles.model import PredictionType
from ptqbench_diffusers.layout import read_json

PREDICTIONS: tuple[PredictionType, ...] = tuple(kind for kind in get_args(PredictionType) if kind != "flow")
_LINEAR, _SCALED, _COSINE, _SIGMOID = "linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"
FLOW = "FlowMatchEulerDiscreteScheduler"
UNKNOWN = (
    "invert_sigmas",
    "shift_terminal",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "stochastic_sampling",
)
"""Settings of it that change noise levels or steps in ways that nothing here follows."""
_KNOWN = (_LINEAR, _SCALED, _COSINE, _SIGMOID)


@dataclass(frozen=True)
class Noise:
    """`alphas_cumprod` (T,) float64, and what the denoiser predicts: one of `PREDICTIONS`."""

    alphas_cumprod: Tensor
    prediction: PredictionType


def read_noise(path: Path, *, flow: bool = False, tokens: int = 0) -> Noise:
    """The schedule in a scheduler_config.json; of a `flow`, for images of so many tokens.

    Raises `UserError` if it is none of the known discrete schedules, or no flow's.
    """
    config, known = _with_defaults(read_json(path))
    name = config.get("_class_name")
    if flow and name != FLOW:
        raise UserError(f"{path}: {name} does not fit: the pipeline is a flow", f"use a pipeline with a {FLOW}")
    if flow:
        return Noise(_flow_levels(config, path, tokens), "flow")
    if "beta_schedule" not in known:
        raise UserError(
            f"{path}: {name} has no discrete noise schedule", "use a pipeline with a scheduler such as DDPMScheduler"
        )
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


def _flow_levels(config: dict[str, Any], path: Path, tokens: int) -> Tensor:
    """The cumulative alphas (T,) that stand for a flow's levels t / T, shifted as diffusers shifts them for images of so many
    tokens: exp(mu) where the configuration says "exponential", with mu on a line through two numbers of tokens."""
    unknown = [name for name in UNKNOWN if config.get(name)]
    if unknown:
        raise UserError(f"{path}: {', '.join(unknown)} cannot be followed", "use a pipeline without")
    try:
        steps, shift = int(config["num_train_timesteps"]), float(config["shift"])
        if config.get("use_dynamic_shifting"):
            low, high = float(config["base_image_seq_len"]), float(config["max_image_seq_len"])
            start, end = float(config["base_shift"]), float(config["max_shift"])
            mu = start + (end - start) * (tokens - low) / (high - low)
            shift = math.exp(mu) if config["time_shift_type"] == "exponential" else mu
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"{path} does not describe a flow: {error}", "see the plugin's README") from error
    if steps < 2 or not shift > 0:
        raise UserError(f"{path}: {steps} timesteps and a shift of {shift:g} make no flow", "save the pipeline again")
    return alphas_of(shifted(torch.arange(1, steps + 1, dtype=torch.float64, device="cpu") / steps, shift))


def _with_defaults(config: dict[str, Any]) -> tuple[dict[str, Any], Collection[str]]:
    """What the file leaves out is the default of the scheduler class that it names: classes differ in theirs, and in what
    they know, whose names come second."""
    import diffusers  # slow to import: only when a model is loaded

    name = str(config.get("_class_name"))
    scheduler = getattr(diffusers, name, None) if name.endswith("Scheduler") else None
    known = inspect.signature(scheduler).parameters if isinstance(scheduler, type) else {}
    defaults = {key: value.default for key, value in known.items() if value.default is not inspect.Parameter.empty}
    if config.get("predict_epsilon") is False:
        # How early versions spelt it.
        defaults["prediction_type"] = "sample"
    return defaults | config, known
