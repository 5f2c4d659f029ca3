"""The tables of the presets `nearest-minmax` and `nearest-mse`."""

from __future__ import annotations

from typing import Any


def _plain(found_by: str | dict[str, Any]) -> dict[str, Any]:
    """Rounding to nearest on grids of one estimator, at the same bits everywhere."""
    return {
        "sampler": "random",
        "weighter": "uniform",
        "reconstruction": "none",
        "weights": {"per": "channel", "quantizer": "nearest", "range": found_by},
        "activations": {"per": "tensor", "quantizer": "affine", "range": found_by},
        "passes": [],
    }


NEAREST_MINMAX = _plain("minmax")
NEAREST_MSE = _plain({"use": "mse", "candidates": 80})
