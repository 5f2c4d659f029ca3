"""The table of the preset `qdrop`, and how it stands to the paper and to released code."""

from __future__ import annotations

from typing import Any

QDROP: dict[str, Any] = {
    "sampler": "random",
    "weighter": "uniform",
    "reconstruction": {
        "use": "qdrop",
        "iterations": 20_000,
        "rounding_rate": 1e-3,
        "rounding_decay": "none",
        "step_rate": 4e-5,
        "batch": 32,
        "input_keep": 0.5,
        "activation_keep": 0.5,
        "power": 2.0,
    },
    "weights": {
        "per": "channel",
        "quantizer": {"use": "adaround", "round_weight": 0.01, "warmup": 0.2, "beta_start": 20.0, "beta_end": 2.0},
        "range": {"use": "mse", "candidates": 80},
    },
    "activations": {
        "per": "tensor",
        "quantizer": {"use": "lsq", "gradient_scale": "lsq"},
        "range": {"use": "mse", "candidates": 80},
    },
    "passes": ["first-last-8bit"],
}

DEVIATIONS = ("calibrated on random steps of full-precision trajectories; the paper, on classifiers, takes training images",)

RELEASED = (
    "searches first ranges over 100 widths and all zero points; here over 80 shrunken extrema",
    "finds activation ranges on 256 images; here on all calibration samples",
    "quantizes activations where layers write them; here where layers read them",
)
