"""The tables of the presets `brecq`, `brecq-fisher` and `adaround`, and where they differ from their papers."""

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
_READERS = "activations are quantized where layers read them, not where layers write them"

DEVIATIONS = (
    _CALIBRATION,
    _READERS,
    "plain squared error, as in all released scripts; the paper's Fisher weighting is the preset brecq-fisher",
    "the first layer is fitted like any other; the released code leaves it rounded to nearest at 8 bits",
)

FISHER_DEVIATIONS = (
    _CALIBRATION,
    _READERS,
    "step sizes are learned under the same Fisher-weighted loss, with exponent 2; the released scripts have 2.4 and no Fisher",
    "the sensitivity is that of the squared error of the noise prediction, scaled to root mean square 1",
)

ADAROUND_DEVIATIONS = (
    _CALIBRATION,
    "20000 iterations and ranges with the smallest error to the power 2.4, as released code of BRECQ has them",
    "the error is taken before the activation function, which diffusion blocks apply elsewhere",
    "activation grids stay as the search found them",
)
