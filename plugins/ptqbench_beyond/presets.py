"""The tables of the presets `beyond-uniformity` and `beyond-uniformity-brecq`, and how they stand to paper and code."""

from __future__ import annotations

from typing import Any

_WEIGHTS: dict[str, Any] = {
    "per": "channel",
    "quantizer": {"use": "adaround", "round_weight": 0.01, "warmup": 0.2, "beta_start": 20.0, "beta_end": 2.0},
    "range": {"use": "mse", "candidates": 80},
}

_META: dict[str, Any] = {"losses": ["output", "haar"], "weighter": "sample-frequency"}

BEYOND: dict[str, Any] = {
    **_META,
    "sampler": {"use": "stride", "points": "all"},
    "partitioner": "temporal-blocks",
    "reconstruction": {"use": "brecq", "iterations": 20_000, "rounding_rate": 1e-3, "batch": 32, "power": 2.0},
    "weights": _WEIGHTS,
    "activations": {"per": "tensor", "quantizer": "affine", "range": {"use": "ema", "momentum": 0.95}},
    "passes": [
        # Input and output convolution of diffusers' UNets and the DDPM UNet for CIFAR-10, then of the latent-diffusion UNet.
        {"use": "float-layers", "patterns": ["conv_in", "conv_out", "input_blocks.0.0", "out.2"]},
        "finite-set",
    ],
}

BEYOND_BRECQ: dict[str, Any] = {
    **_META,
    "sampler": {"use": "stride", "points": 20},
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
    "weights": _WEIGHTS,
    "activations": {"per": "tensor", "quantizer": "lsq", "range": {"use": "ema", "momentum": 0.95}},
    "passes": ["skip-split"],
}

RELEASED_BASE = ("that of TFMQ-DM, the base, differs in what `ptqbench describe tfmq-dm` lists",)

CONSTANTS = ("the constants of the fit and of the ranges; those of TFMQ-DM, the base",)

RELEASED_PLAIN = ("that of Q-Diffusion, whose components these are, differs in what `ptqbench describe q-diffusion` lists",)

BRECQ_DEVIATIONS = ("on Q-Diffusion's calibration and components; the paper's base is TFMQ-DM (preset beyond-uniformity)",)
