"""Presets of published methods, all defaults filled in, against the constants of papers and released code."""

from __future__ import annotations

from typing import Any

import pytest
from enginekit import experiment, recipe

from ptqbench.recipe.describe import describe_method

RANDOM, STRIDE = {"use": "random"}, {"use": "stride", "points": 20, "compat": False}
NORMAL = {"use": "normal", "mean": 0.4, "std": 0.4, "compat": False}

FIT = {
    "iterations": 20_000,
    "rounding_rate": 1e-3,
    "step_iterations": 5_000,
    "step_rate": 4e-4,
    "batch": 32,
    "power": 2.0,
    "step_power": 2.4,
}
BRECQ = {"use": "brecq", **FIT}
PTQD = {**BRECQ, "iterations": 10_000, "batch": 8}
QDROP = {
    "use": "qdrop",
    "iterations": 20_000,
    "rounding_rate": 1e-3,
    "rounding_decay": "none",
    "step_rate": 4e-5,
    "batch": 32,
    "input_keep": 0.5,
    "activation_keep": 0.5,
    "power": 2.0,
}

SEARCH = {"use": "mse", "candidates": 80, "shrink": 0.01, "power": 2.4, "include_zero": False, "max_values": 65536}
THRESHOLD = {"use": "threshold", "candidates": 100, "power": 2.4, "momentum": 0.9, "max_values": 65536}
EMA = {"use": "ema", "momentum": 0.95, "include_zero": False}

ADAROUND = {"use": "adaround", "round_weight": 0.01, "warmup": 0.2, "beta_start": 20.0, "beta_end": 2.0}
LSQ, AFFINE = {"use": "lsq", "gradient_scale": "none"}, {"use": "affine"}

ENDS, SPLIT = {"use": "first-last-8bit", "bits": 8}, {"use": "skip-split", "required": True}
OUTPUT = [{"use": "output"}]


def site(bits: int, per: str, quantizer: dict[str, Any], found_by: dict[str, Any], steps: int = 1) -> dict[str, Any]:
    return {"bits": bits, "per": per, "symmetric": False, "steps": steps, "quantizer": quantizer, "range": found_by}


WEIGHTS = site(4, "channel", ADAROUND, SEARCH)
LEARNED, FIXED = site(8, "tensor", LSQ, SEARCH), site(8, "tensor", AFFINE, SEARCH)


def table(
    sampler: dict[str, Any],
    reconstruction: dict[str, Any],
    passes: list[dict[str, Any]],
    activations: dict[str, Any],
    weights: dict[str, Any] = WEIGHTS,
    losses: list[dict[str, Any]] = OUTPUT,
) -> dict[str, Any]:
    """A method as `describe_method` tells it, without partitioner and hooks."""
    return {
        "sampler": sampler,
        "weighter": {"use": "uniform"},
        "reconstruction": reconstruction,
        "losses": losses,
        "passes": passes,
        "weights": weights,
        "activations": activations,
    }


BY_LAYER = {**BRECQ, "use": "layerwise"}
CHANNELS, TENSOR = site(4, "channel", {"use": "nearest"}, THRESHOLD), site(8, "tensor", AFFINE, THRESHOLD)
TDQ = {"use": "tdq", "base": "shared", "hidden": 64, "layers": 2, "frequencies": 4}

PUBLISHED = {
    "brecq": table(RANDOM, BRECQ, [ENDS], LEARNED),
    "brecq-fisher": table(RANDOM, BRECQ, [ENDS], LEARNED, losses=[{"use": "fisher", "compat": False}]),
    "adaround": table(RANDOM, BY_LAYER, [ENDS], FIXED),
    "qdrop": table(RANDOM, QDROP, [ENDS], site(8, "tensor", {"use": "lsq", "gradient_scale": "lsq"}, SEARCH)),
    "ptq4dm": table(NORMAL, {"use": "none"}, [ENDS], TENSOR, CHANNELS, []),
    "ptq4dm-reconstructed": table(
        NORMAL, BRECQ, [ENDS], site(8, "tensor", LSQ, THRESHOLD), site(4, "channel", ADAROUND, THRESHOLD)
    ),
    "q-diffusion": table(STRIDE, BRECQ, [SPLIT], site(8, "tensor", LSQ, EMA)),
    "ptqd": table(RANDOM, PTQD, [ENDS], LEARNED),
    "ptqd-released": table(RANDOM, PTQD, [ENDS], LEARNED, site(4, "tensor", ADAROUND, SEARCH)),
    "tfmq-dm": table({**STRIDE, "points": "all"}, BRECQ, [], site(8, "tensor", AFFINE, EMA)),
    "tfmq-dm-released": table({**STRIDE, "points": "all"}, BRECQ, [], site(8, "tensor", AFFINE, EMA)),
    "tdq": table(STRIDE, BRECQ, [], site(8, "tensor", TDQ, EMA, steps=5)),
}
NAMED = {
    "ptqd-released": ["layer-bits", "float-layers", "attention"],
    "tfmq-dm": ["float-layers", "finite-set"],
    "tfmq-dm-released": ["float-layers", "layer-bits", "attention", "finite-set"],
}
"""Passes about layers that a preset names, after those above; the methods' own tests look at the plans they make."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_has_the_published_constants(name: str) -> None:
    raw = recipe()
    raw["methods"] = {"mine": {"method": name}}
    raw["recipe"]["baseline"] = "mine"
    method = next(cell.method for cell in experiment(raw=raw).cells if cell.method)
    found, expected = describe_method(method), PUBLISHED[name]
    passes = found.pop("passes")
    kept = len(expected["passes"])
    assert passes[:kept] == expected["passes"]
    assert [chosen["use"] for chosen in passes[kept:]] == NAMED.get(name, [])
    for chosen in passes:
        if chosen["use"] == "attention":
            assert chosen == {"use": "attention", "q": 32, "k": 32, "v": 32, "softmax": 32}
    assert {key: found[key] for key in expected if key != "passes"} == {k: v for k, v in expected.items() if k != "passes"}
    hook = {"use": "ptqd", "slope": True, "bias": True, "variance": True, "trajectories": 1024}
    assert found["hooks"] == ([{**hook, "compat": name == "ptqd-released"}] if name.startswith("ptqd") else [])
    partitioner = {"adaround": "layers", "ptq4dm": None, "tfmq-dm": "temporal-blocks", "tfmq-dm-released": "temporal-blocks"}
    assert (found["partitioner"] or {"use": None})["use"] == partitioner.get(name, "blocks")
