"""The tables of the presets `ptqd` and `ptqd-released`, and where they differ from paper and code."""

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

_COMMON = (
    "step sizes are learned on mini-batches of 8 like the rounding; the released code takes 16 for them",
    "activation ranges are searched on the whole calibration set; the released code takes 32 samples",
    "one calibration set for weights and activations; the released code draws one for each",
)

DEVIATIONS = (
    "weight grids per channel; the released code has one per tensor",
    "shortcuts, downsampling layers and the products inside attention are quantized, to have the bits of other methods; the "
    "released code leaves them in full precision",
    "8 bits for the input and output convolution; the released code has 8 bits for the first time layer too",
    *_COMMON,
)

RELEASED_DEVIATIONS = (
    *_COMMON,
    "layers with 8 bits are fitted like all others; the released code rounds them to nearest",
    "dropout is off while a unit is fitted",
    "the hook is fitted on calibration trajectories; the released code runs new ones for it",
    "images are scaled once; the released script for evaluation scales them twice",
)
