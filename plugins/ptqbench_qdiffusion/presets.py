"""The table of the preset `q-diffusion`, and how it stands to released code."""

from __future__ import annotations

from typing import Any

Q_DIFFUSION: dict[str, Any] = {
    "sampler": {"use": "stride", "points": 20},
    "weighter": "uniform",
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
        "range": {"use": "mse", "candidates": 80},
    },
    "activations": {"per": "tensor", "quantizer": "lsq", "range": {"use": "ema", "momentum": 0.95}},
    "passes": ["skip-split"],
}

RELEASED = (
    "takes min-max ranges on CIFAR-10 (for weights minmax with compat = true); here those of latent models serve all",
    "has symmetric activation grids on CIFAR-10 and LSUN-Bedrooms (activations.symmetric = true); here all are asymmetric",
    "averages activation ranges step by step on LSUN-Bedrooms, without those of attention, and not at all on CIFAR-10 and "
    "LSUN-Churches; here over samples of all steps in random order",
    "does not split on LSUN (passes = []), and keeps the softmax at 16 bits on Stable Diffusion",
)
