"""The tables of the presets `ptq4dm` and `ptq4dm-reconstructed`, and how they stand to the paper and to released code."""

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

RELEASED = (
    "leaves the projections and products of attention in full precision; here they have the bits of everything else",
    "quantizes activations where layers write them; here where layers read them",
    "averages ranges over batches of 256; here over the recipe's calibration batches",
    "clips predicted clean images to [-1, 1] while sampling; here they are not clipped",
)

RECONSTRUCTED_DEVIATIONS = ("rounding is learned; the published results, at 8 bits, are those of rounding to nearest",)

RECONSTRUCTED_UNSTATED = (
    "how weights were fitted in the 4-bit rows that other papers print for it; here by block reconstruction, since rounding to "
    "nearest fails at 4 bits",
)

RECONSTRUCTED_RELEASED = (
    *RELEASED,
    "can learn rounding by QDrop, layer by layer with 100 iterations, which its scripts leave off",
)
