"""The table of the preset `tdq`, and where it differs from the paper."""

from __future__ import annotations

from typing import Any

TDQ: dict[str, Any] = {
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
    "weights": {"per": "channel", "quantizer": "adaround", "range": {"use": "mse", "candidates": 80}},
    "activations": {"per": "tensor", "steps": "each", "quantizer": "tdq", "range": {"use": "ema", "momentum": 0.95}},
}

DEVIATIONS = (
    "weights are rounded by block reconstruction; the released code trains the whole network with quantization in place",
    "step sizes are learned unit by unit on the unit's output error; the paper learns them on the network's",
    "constants of the optimisation are BRECQ's and Q-Diffusion's; those of the paper's post-training variant were not found",
)
