"""The tables of the presets `brecq`, `brecq-fisher` and `adaround`, and how they stand to papers and to released code."""

from __future__ import annotations

from typing import Any

_ROUNDING: dict[str, Any] = {
    "per": "channel",
    "quantizer": {"use": "adaround", "round_weight": 0.01, "warmup": 0.2, "beta_start": 20.0, "beta_end": 2.0},
    "range": {"use": "mse", "candidates": 80},
}

_FIT: dict[str, Any] = {
    "iterations": 20_000,
    "rounding_rate": 1e-3,
    "step_iterations": 5_000,
    "step_rate": 4e-4,
    "batch": 32,
    "power": 2.0,
    "step_power": 2.4,
}

BRECQ: dict[str, Any] = {
    "sampler": "random",
    "weighter": "uniform",
    "reconstruction": {"use": "brecq", **_FIT},
    "weights": _ROUNDING,
    "activations": {"per": "tensor", "quantizer": "lsq", "range": {"use": "mse", "candidates": 80}},
    "passes": ["first-last-8bit"],
}

BRECQ_FISHER: dict[str, Any] = {**BRECQ, "losses": ["fisher"]}

ADAROUND: dict[str, Any] = {
    **BRECQ,
    "reconstruction": {"use": "layerwise", **_FIT},
    "activations": {"per": "tensor", "quantizer": "affine", "range": {"use": "mse", "candidates": 80}},
}

_CALIBRATION = "calibrated on random steps of full-precision trajectories; the paper, on classifiers, takes training images"
_READERS = "quantizes activations where layers write them; here where layers read them"
_FIRST = "leaves the first layer rounded to nearest at 8 bits; here it is fitted like any other"

DEVIATIONS = (
    _CALIBRATION,
    "the loss is the plain squared error, as in all published scripts; the paper's has Fisher weights (preset brecq-fisher)",
)

RELEASED = (_READERS, _FIRST)

FISHER_DEVIATIONS = (_CALIBRATION,)

FISHER_RELEASED = (
    _READERS,
    _FIRST,
    "has no Fisher weights in its scripts, and learns step sizes with exponent 2.4; here with Fisher weights and exponent 2",
)

ADAROUND_DEVIATIONS = (_CALIBRATION,)

ADAROUND_UNSTATED = (
    "the number of iterations, and how ranges are found; 20000, and by the smallest error to the power 2.4, as in BRECQ's code",
)

ADAROUND_RELEASED = ("that of BRECQ quantizes activations where layers write them; here where layers read them",)
