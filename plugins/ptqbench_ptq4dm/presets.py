"""The tables of the presets `ptq4dm` and `ptq4dm-reconstructed`, and where they differ from the paper."""

from __future__ import annotations

from typing import Any

_RANGE: dict[str, Any] = {"use": "threshold", "candidates": 100, "momentum": 0.9}

PTQ4DM: dict[str, Any] = {
    "sampler": {"use": "normal", "mean": 0.4, "std": 0.4},
    "weighter": "uniform",
    "reconstruction": "none",
    "weights": {"per": "channel", "quantizer": "nearest", "range": _RANGE},
    "activations": {"per": "tensor", "quantizer": "affine", "range": _RANGE},
    "passes": ["first-last-8bit"],
}

RECONSTRUCTED: dict[str, Any] = {
    **PTQ4DM,
    "reconstruction": {
        "use": "brecq",
        "iterations": 20_000,
        "rounding_rate": 1e-3,
        "step_iterations": 5_000,
        "step_rate": 4e-4,
        "batch": 32,
        "power": 2.0,
        "step_power": 2.4,
    },
    "weights": {
        "per": "channel",
        "quantizer": {"use": "adaround", "round_weight": 0.01, "warmup": 0.2, "beta_start": 20.0, "beta_end": 2.0},
        "range": _RANGE,
    },
    "activations": {"per": "tensor", "quantizer": "lsq", "range": _RANGE},
}

DEVIATIONS = (
    "every sample carries its own timestep; the released code pairs it with another (option compat of the sampler)",
    "attention is quantized like everything else; the released code leaves its projections and products in full precision",
    "activations are quantized where layers read them, not where layers write them",
    "ranges are averaged over the recipe's calibration batches; the released code takes batches of 256",
    "predicted clean images are not clipped while sampling; the released code clips them to [-1, 1]",
    "8 bits at the layers that read the input; the released code counts a linear layer of the time embedding as the first",
)

RECONSTRUCTED_DEVIATIONS = (
    *DEVIATIONS,
    "the published method rounds to nearest, which fails at 4 bits; papers that print 4-bit rows for it do not say how it was "
    "reconstructed. Block reconstruction stands in for that",
)
