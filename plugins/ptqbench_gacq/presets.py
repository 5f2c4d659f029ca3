"""The tables of the presets `gacq` and `gacq-tfmq`, and where they differ from the paper."""

from __future__ import annotations

from typing import Any

_WEIGHTER: dict[str, Any] = {"use": "gacq", "temperature": 1.0, "validation": 0.05, "groups": 5}

_WEIGHTS: dict[str, Any] = {
    "per": "channel",
    "quantizer": {"use": "adaround", "round_weight": 0.01, "warmup": 0.2, "beta_start": 20.0, "beta_end": 2.0},
    "range": {"use": "mse", "candidates": 80},
}

GACQ: dict[str, Any] = {
    "sampler": {"use": "stride", "points": 20},
    "weighter": _WEIGHTER,
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

GACQ_TFMQ: dict[str, Any] = {
    "sampler": {"use": "stride", "points": "all"},
    "weighter": _WEIGHTER,
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

_BOTH = (
    "optimiser, learning rate and number of score updates, and the look-ahead's length: no source gives them",
    "the validation split is taken from the calibration budget",
)

DEVIATIONS = (*_BOTH, "on Q-Diffusion's components; the paper's base is TFMQ-DM (preset gacq-tfmq)")

TFMQ_DEVIATIONS = (
    *_BOTH,
    "one calibration set for weights and activations; TFMQ-DM's code fits weights on every fifth to twenty-fifth step",
    "samples of different steps come from different trajectories of one pool, not from runs of their own",
)
