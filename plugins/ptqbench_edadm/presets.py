"""The table of the preset `eda-dm`, and how it stands to the paper and to released code."""

from __future__ import annotations

from typing import Any

EDADM: dict[str, Any] = {
    "sampler": {"use": "density-diversity", "weight": 1.2},
    "weighter": "uniform",
    "reconstruction": {
        "use": "qdrop",
        "iterations": 5000,
        "rounding_rate": 0.5,
        "rounding_decay": "cosine",
        "step_rate": 5e-4,
        "batch": 32,
        "input_keep": 0.5,
        "activation_keep": 0.5,
        "power": 2.0,
    },
    "losses": ["output", {"use": "layer-outputs", "factor": 0.8}],
    "weights": {
        "per": "channel",
        "quantizer": {"use": "adaround", "round_weight": 0.0},
        "range": {"use": "threshold", "candidates": 100},
    },
    "activations": {
        "per": "tensor",
        "quantizer": {"use": "lsq", "gradient_scale": "none"},
        "range": {"use": "threshold", "candidates": 100, "momentum": 0.9},
    },
    "passes": ["first-last-8bit", "skip-split", {"use": "attention", "q": 8, "k": 8, "v": 8, "softmax": 8}],
}

UNSTATED = (
    "whether rounding is regularised; it is not, as in the released code",
    "whether step sizes learn with LSQ's gradient scale; without it here",
)

RELEASED = (
    "has constants of its own for each model, and learning rates for each bit width; here those of CIFAR-10 at W4",
    "leaves the input of the last layer in full precision; here it has 8 bits",
    "averages ranges over batches of 256, 32 or 2 samples; here over the recipe's calibration batches",
    "does not split shortcuts on Stable Diffusion (leave skip-split out)",
)
