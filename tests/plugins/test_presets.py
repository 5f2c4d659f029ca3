"""Shipped presets: the published constants that they resolve to, and what sets each apart from the one that it builds on."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from enginekit import experiment, recipe

from ptqbench.recipe.describe import describe_method


@cache
def resolved(name: str) -> dict[str, Any]:
    """The preset's method with all options, "weights.quantizer" and its like as keys of their own."""
    raw = recipe()
    raw["methods"] = {"mine": {"method": name}}
    raw["recipe"]["baseline"] = "mine"
    (method,) = [cell.method for cell in experiment(raw=raw).cells if cell.method]
    found = describe_method(method)
    sites = {f"{site}.{key}": value for site in ("weights", "activations") for key, value in found.pop(site).items()}
    return {**found, **sites}


BRECQ = {"iterations": 20_000, "rounding_rate": 1e-3, "step_iterations": 5_000, "step_rate": 4e-4, "batch": 32}
POWERS = {"power": 2.0, "step_power": 2.4}
QDROP = {"iterations": 20_000, "rounding_rate": 1e-3, "step_rate": 4e-5, "input_keep": 0.5, "activation_keep": 0.5}
EDADM = {"iterations": 5_000, "rounding_rate": 0.5, "rounding_decay": "cosine", "step_rate": 5e-4, "batch": 32}


@pytest.mark.parametrize(
    ("preset", "key", "published"),
    [
        ("brecq", "reconstruction", BRECQ | POWERS),
        ("brecq", "weights.quantizer", {"round_weight": 0.01, "warmup": 0.2, "beta_start": 20.0, "beta_end": 2.0}),
        ("brecq", "weights.range", {"use": "mse", "candidates": 80, "power": 2.4}),
        ("adaround", "reconstruction", {"use": "layerwise"} | BRECQ | POWERS),
        ("qdrop", "reconstruction", QDROP),
        ("eda-dm", "reconstruction", QDROP | EDADM),
        ("eda-dm", "sampler", {"use": "density-diversity", "weight": 1.2}),
        ("tfmq-dm", "reconstruction", BRECQ),
        ("tfmq-dm", "sampler", {"use": "stride", "points": "all"}),
        ("tfmq-dm", "partitioner", {"use": "temporal-blocks"}),
        ("tfmq-dm", "activations.range", {"use": "ema", "momentum": 0.95}),
        ("ptqd", "reconstruction", BRECQ | POWERS | {"iterations": 10_000, "batch": 8}),
        ("q-diffusion", "sampler", {"use": "stride", "points": 20}),
        ("q-diffusion", "activations.range", {"use": "ema", "momentum": 0.95}),
        ("ptq4dm", "sampler", {"use": "normal", "mean": 0.4, "std": 0.4}),
        ("ptq4dm", "activations.range", {"use": "threshold", "candidates": 100, "momentum": 0.9}),
        ("gacq-tfmq", "weighter", {"use": "gacq", "temperature": 1.0, "validation": 0.05, "groups": 5}),
    ],
)
def test_published_constants(preset: str, key: str, published: dict[str, Any]) -> None:
    found = resolved(preset)[key]
    assert {option: found.get(option) for option in published} == published


@pytest.mark.parametrize(
    ("preset", "base", "apart"),
    [
        ("gacq", "q-diffusion", {"weighter"}),
        ("gacq-tfmq", "tfmq-dm", {"weighter"}),
        ("gacq-tfmq-before", "gacq-tfmq", {"weighter"}),
        ("gacq-tfmq-each", "gacq-tfmq", {"weighter"}),
        ("gacq-tfmq-network", "gacq-tfmq", {"weighter"}),
        ("beyond-uniformity", "tfmq-dm", {"losses", "weighter"}),
        ("beyond-uniformity-brecq", "q-diffusion", {"losses", "weighter"}),
        ("brecq-fisher", "brecq", {"losses"}),
        ("q-diffusion", "brecq", {"sampler", "activations.range", "passes"}),
        ("ptqd", "brecq", {"reconstruction", "hooks"}),
        ("ptqd-released", "ptqd", {"weights.per", "passes", "hooks"}),
        ("tfmq-dm-released", "tfmq-dm", {"passes"}),
        ("tdq", "q-diffusion", {"activations.steps", "activations.quantizer", "passes"}),
        (
            "ptq4dm-reconstructed",
            "ptq4dm",
            {"reconstruction", "partitioner", "losses", "weights.quantizer", "activations.quantizer"},
        ),
        ("nearest-mse", "nearest-minmax", {"weights.range", "activations.range"}),
    ],
)
def test_what_sets_a_preset_apart_from_its_base(preset: str, base: str, apart: set[str]) -> None:
    one, other = resolved(preset), resolved(base)
    assert {key for key in one if one[key] != other[key]} - {"preset"} == apart
