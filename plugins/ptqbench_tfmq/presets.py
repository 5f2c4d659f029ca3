"""The tables of the presets `tfmq-dm` and `tfmq-dm-released`, and how they stand to the paper and to released code."""

from __future__ import annotations

from typing import Any

ENDS = ("conv_in", "conv_out", "input_blocks.0.0", "out.2")
"""Input and output convolution of diffusers' UNets and the DDPM UNet for CIFAR-10, then of the latent-diffusion UNet."""

RELEASED_FLOAT = (
    *ENDS,
    "time_embedding.linear_1",
    "temb.dense.0",
    "time_embed.0",
    "*.conv_shortcut",
    "*.nin_shortcut",
    "*.skip_connection",
    "*.downsamplers.*.conv",
    "*.downsample.conv",
    "*.op",
)
"""What the released code leaves in full precision: both ends, the first time layer, 1x1 shortcuts, downsampling."""

RELEASED_FLOAT_INPUTS = (
    "time_embedding.linear_2",
    "temb.dense.1",
    "time_embed.2",
    "down_blocks.0.resnets.0.conv1",
    "down.0.block.0.conv1",
    "input_blocks.1.0.in_layers.2",
)
"""Layers with quantized weights whose inputs the released code leaves alone: second time layer, first residual convolution."""

_COMMON: dict[str, Any] = {
    "sampler": {"use": "stride", "points": "all"},
    "weighter": "uniform",
    "partitioner": "temporal-blocks",
    "reconstruction": {"use": "brecq", "iterations": 20_000, "rounding_rate": 1e-3, "batch": 32, "power": 2.0},
    "weights": {
        "per": "channel",
        "quantizer": {"use": "adaround", "round_weight": 0.01, "warmup": 0.2, "beta_start": 20.0, "beta_end": 2.0},
        "range": {"use": "mse", "candidates": 80},
    },
    "activations": {"per": "tensor", "quantizer": "affine", "range": {"use": "ema", "momentum": 0.95}},
}

TFMQ: dict[str, Any] = {
    **_COMMON,
    "passes": [{"use": "float-layers", "patterns": list(ENDS)}, "finite-set"],
}

RELEASED: dict[str, Any] = {
    **_COMMON,
    "passes": [
        {"use": "float-layers", "patterns": list(RELEASED_FLOAT)},
        {"use": "layer-bits", "patterns": list(RELEASED_FLOAT_INPUTS), "activations": 32},
        {"use": "attention", "q": 32, "k": 32, "v": 32, "softmax": 32},
        {"use": "finite-set", "compat": True},
    ],
}

_BOTH = (
    "fits weights on every fifth to twenty-fifth step only; here one calibration set serves weights and activations",
    "draws the samples of each step from runs of their own; here from different trajectories of one pool",
    "averages ranges over batches of 16; here over the recipe's calibration batches",
)

TFMQ_RELEASED = (
    "leaves shortcuts, downsampling, the first time layer and attention's products in full precision, and has grids for each "
    "step everywhere (preset tfmq-dm-released)",
    "has 8 bits for the softmax in its configuration, whatever the activations have; here it has theirs",
    *_BOTH,
)

UNSTATED = (
    "what the version in a journal changes; this is the method of the conference paper",
    "in which layers the published results at W4A8 had grids for each step; in the temporal block, and everywhere in "
    "tfmq-dm-released",
)

RELEASED_DEVIATIONS = (
    "grids for each step at every layer; the paper has them in the temporal block",
    "shortcuts, downsampling, the first time layer, two layers' inputs and attention's products stay in full precision; the "
    "paper names the input and output layers",
)

REST_RELEASED = (
    *_BOTH,
    "has a table of steps and labels that do not fit LSUN-Churches; here grids belong to the steps that are sampled",
    "does not quantize the layers of LSUN's attention, which it does not wrap; here they are quantized",
)
