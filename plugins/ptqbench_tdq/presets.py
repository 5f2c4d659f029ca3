"""The table of the preset `tdq`, and how it stands to the paper and to released code."""

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

UNSTATED = (
    "details of its post-training variant; block reconstruction, then step sizes unit by unit on the unit's output error, with "
    "constants of BRECQ and Q-Diffusion",
)

RELEASED = ("fine-tunes the whole network with quantization in place; here units are fitted one by one",)
