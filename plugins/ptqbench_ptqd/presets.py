"""The tables of the presets `ptqd` and `ptqd-released`, and how they stand to released code."""

from __future__ import annotations

from typing import Any

FIRST_TIME_LAYER = ("time_embedding.linear_1", "temb.dense.0", "time_embed.0")
"""In diffusers' UNets, the DDPM UNet for CIFAR-10 and the latent-diffusion UNet, as below."""

SHORTCUTS = (
    "*.conv_shortcut",
    "*.nin_shortcut",
    "*.skip_connection",
    "*.downsamplers.*.conv",
    "*.downsample.conv",
    "*.op",
)
"""1x1 shortcuts and downsampling layers."""

_ROUNDING: dict[str, Any] = {
    "quantizer": {"use": "adaround", "round_weight": 0.01, "warmup": 0.2, "beta_start": 20.0, "beta_end": 2.0},
    "range": {"use": "mse", "candidates": 80},
}

PTQD: dict[str, Any] = {
    "sampler": "random",
    "weighter": "uniform",
    "reconstruction": {
        "use": "brecq",
        "iterations": 10_000,
        "rounding_rate": 1e-3,
        "step_iterations": 5_000,
        "step_rate": 4e-4,
        "batch": 8,
        "power": 2.0,
        "step_power": 2.4,
    },
    "weights": {"per": "channel", **_ROUNDING},
    "activations": {"per": "tensor", "quantizer": "lsq", "range": {"use": "mse", "candidates": 80}},
    "passes": ["first-last-8bit"],
    "hooks": ["ptqd"],
}

RELEASED: dict[str, Any] = {
    **PTQD,
    "weights": {"per": "tensor", **_ROUNDING},
    "passes": [
        "first-last-8bit",
        {"use": "layer-bits", "patterns": list(FIRST_TIME_LAYER), "weights": 8, "activations": 8},
        {"use": "float-layers", "patterns": list(SHORTCUTS)},
        {"use": "attention", "q": 32, "k": 32, "v": 32, "softmax": 32},
    ],
    "hooks": [{"use": "ptqd", "compat": True}],
}

UNSTATED = ("settings for other models than the released one; those of LDM-4 on ImageNet serve all",)

COMMON_RELEASED = (
    "learns step sizes on mini-batches of 16; here of 8, as rounding",
    "searches activation ranges on 32 samples; here on the whole calibration set",
    "draws one calibration set for weights and another for activations; here one serves both",
    "rounds layers with 8 bits to nearest; here they are fitted like all others",
    "scales images twice in its script for evaluation; here they are scaled once",
)

PTQD_RELEASED = (
    "has one weight grid per tensor, 8 bits in the first time layer too, and shortcuts, downsampling layers and attention's "
    "products in full precision (preset ptqd-released); here all have the bits of other methods",
    *COMMON_RELEASED,
)
