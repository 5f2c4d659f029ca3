"""The table of the preset `q-diffusion`, and where it differs from paper and code."""

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

DEVIATIONS = (
    "one table for all models, with the released ranges of latent models; the CIFAR-10 script takes min-max ranges (for "
    "weights minmax with compat = true, which has the released slip)",
    "activation grids are asymmetric, as for LSUN-Churches and Stable Diffusion; the CIFAR-10 and LSUN-Bedrooms scripts have "
    "symmetric ones (activations.symmetric = true)",
    "activation ranges are averaged over samples of all steps in random order; released Q-Diffusion goes from step to step on "
    "LSUN-Bedrooms, where it leaves attention out of the average, and averages nothing on CIFAR-10 and LSUN-Churches",
    "units are fitted in execution order; released Q-Diffusion takes the order of registration",
    "the released LSUN scripts do not split (passes = []); those for Stable Diffusion keep the softmax at 16 bits",
    "dropout is off while a unit is fitted; released Q-Diffusion has it on for CIFAR-10",
    "both parts of a split layer have the rounding regulariser; released Q-Diffusion leaves the second one out",
)
