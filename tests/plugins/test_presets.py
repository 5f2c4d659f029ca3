"""Shipped presets: the published constants that they resolve to, what sets each apart from the one that it builds on, and that
each is a row of a comparison."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from enginekit import cell_of, context, experiment, recipe, run_cell

from ptqbench.plugin.manager import PluginManager
from ptqbench.quant.plan import SITES
from ptqbench.recipe.describe import describe_method
from ptqbench.recipe.schema import parse_bits
from ptqbench.stage.context import RunContext


@cache
def resolved(name: str) -> dict[str, Any]:
    """The preset's method with all options, "weights.quantizer" and its like as keys of their own."""
    raw = recipe()
    raw["methods"] = {"mine": {"method": name}}
    raw["recipe"]["baseline"] = "mine"
    raw["sampling"]["steps"] = 20  # as many as a preset takes samples from
    (method,) = [cell.method for cell in experiment(raw=raw).cells if cell.method]
    found = describe_method(method)
    sites = {f"{site}.{key}": value for site in ("weights", "activations") for key, value in found.pop(site).items()}
    return {**found, **sites}


BRECQ = {"iterations": 20_000, "rounding_rate": 1e-3, "step_iterations": 5_000, "step_rate": 4e-4, "batch": 32}
POWERS = {"power": 2.0, "step_power": 2.4}
QDROP = {"iterations": 20_000, "rounding_rate": 1e-3, "step_rate": 4e-5, "batch": 32, "power": 2.0}
QDROP |= {"input_keep": 0.5, "activation_keep": 0.5}
THRESHOLD = {"use": "threshold", "candidates": 100, "power": 2.4, "momentum": 0.9}
SPLIT = {"use": "skip-split", "required": True}
EDADM = {"iterations": 5_000, "rounding_rate": 0.5, "rounding_decay": "cosine", "step_rate": 5e-4}


@pytest.mark.parametrize(
    ("preset", "key", "published"),
    [
        ("brecq", "reconstruction", BRECQ | POWERS),
        ("brecq", "partitioner", {"use": "blocks"}),
        ("brecq", "losses", [{"use": "output"}]),
        ("brecq", "weights.quantizer", {"round_weight": 0.01, "warmup": 0.2, "beta_start": 20.0, "beta_end": 2.0}),
        ("brecq", "weights.range", {"use": "mse", "candidates": 80, "power": 2.4}),
        ("adaround", "reconstruction", {"use": "layerwise"} | BRECQ | POWERS),
        ("adaround", "partitioner", {"use": "layers"}),
        ("qdrop", "reconstruction", QDROP),
        ("qdrop", "activations.quantizer", {"use": "lsq", "gradient_scale": "lsq"}),
        ("eda-dm", "reconstruction", {"use": "qdrop"} | QDROP | EDADM),
        ("eda-dm", "sampler", {"use": "density-diversity", "weight": 1.2}),
        ("eda-dm", "losses", [{"use": "output"}, {"use": "layer-outputs", "factor": 0.8}]),
        ("eda-dm", "weights.per", "channel"),
        ("eda-dm", "weights.quantizer", {"use": "adaround", "round_weight": 0}),
        ("eda-dm", "weights.range", THRESHOLD),
        ("eda-dm", "activations.per", "tensor"),
        ("eda-dm", "activations.quantizer", {"use": "lsq", "gradient_scale": "none"}),
        ("eda-dm", "activations.range", THRESHOLD),
        ("eda-dm", "passes", [{"use": "first-last-8bit", "bits": 8}, SPLIT, {"use": "attention"} | dict.fromkeys(SITES, 8)]),
        ("tfmq-dm", "reconstruction", BRECQ),
        ("tfmq-dm", "sampler", {"use": "stride", "points": "all"}),
        ("tfmq-dm", "partitioner", {"use": "temporal-blocks"}),
        ("tfmq-dm", "activations.range", {"use": "ema", "momentum": 0.95}),
        ("ptqd", "reconstruction", BRECQ | POWERS | {"iterations": 10_000, "batch": 8}),
        ("q-diffusion", "sampler", {"use": "stride", "points": 20}),
        ("q-diffusion", "activations.range", {"use": "ema", "momentum": 0.95}),
        ("ptq4dm", "sampler", {"use": "normal", "mean": 0.4, "std": 0.4}),
        ("q-diffusion", "passes", [SPLIT]),
        ("ptq4dm", "activations.range", THRESHOLD),
        ("ptq4dm", "reconstruction", {"use": "none"}),
        ("tdq", "activations.quantizer", {"use": "tdq", "base": "shared"}),
        ("tdq", "activations.steps", 20),
        ("beyond-uniformity", "losses", [{"use": "output"}, {"use": "haar", "gamma": 1.0}]),
        ("nearest-minmax", "reconstruction", {"use": "none"}),
        ("nearest-minmax", "weights.range", {"use": "minmax"}),
        ("gacq-tfmq", "weighter", {"use": "gacq", "temperature": 1.0, "validation": 0.05, "groups": 5}),
    ],
)
def test_published_constants(preset: str, key: str, published: Any) -> None:
    """Of components the options that are named."""
    found = resolved(preset)[key]
    assert ({option: found.get(option) for option in published} if isinstance(published, dict) else found) == published


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


UNET = ("beyond-uniformity", "gacq-tfmq", "ptqd-released", "tfmq-dm-released")
"""Presets that look for what a UNet has."""

VARIANTS = ("gacq-tfmq-before", "gacq-tfmq-each", "gacq-tfmq-network", "tfmq-dm")
"""Presets whose parts are tried at length elsewhere (tests/plugins/gacq, tests/plugins/tfmq)."""

PLAIN = [r.name for r in PluginManager(block="").presets() if r.name not in (*UNET, *VARIANTS)]
ROWS = [*((name, "W4A8") for name in (*PLAIN, *UNET)), ("qdrop", "W4A32"), ("qdrop", "W32A8")]
FAST = {
    "sampler": {"points": 5},
    "weighter": {"validation": 0.25, "groups": 2},
    "reconstruction": {"iterations": 3, "step_iterations": 2, "batch": 8},
    "weights": {"range": {"candidates": 8}},
}


@cache
def compared(folder: Path, network: str) -> RunContext:
    """Rows on one of the toy networks, cut short."""
    raw = recipe() | {"sweep": {}, "defaults": FAST, "methods": {}}
    raw["model"]["network"] = network
    for preset, bits in ROWS:
        if (preset in UNET) == (network == "unet"):
            weights, activations = parse_bits(bits)
            table = {"method": preset, "weights": {"bits": weights}, "activations": {"bits": activations}}
            raw["methods"][f"{preset}-{bits.lower()}"] = table
    if network == "plain":
        raw["methods"]["eda-dm-w4a8"]["sampler"] = {"tap": ["attention"]}
    raw["recipe"]["baseline"] = next(iter(raw["methods"]))
    return context(folder, experiment(raw=raw))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("presets")


@pytest.mark.parametrize(("preset", "bits"), ROWS, ids=["-".join(row) for row in ROWS])
def test_a_preset_gives_a_row(folder, preset, bits) -> None:
    ctx = compared(folder, "unet" if preset in UNET else "plain")
    record = run_cell(ctx, cell_of(ctx, f"{preset}-{bits.lower()}", bits))
    assert (record.status, record.reason) == ("ok", "")
    assert record.metrics["eps-error"].value > 0
    method = cell_of(ctx, record.method, bits).method
    learned = ["learned" in site.quantizer.component.traits and not site.off for site in (method.weights, method.activations)]
    lengths = {3} if method.reconstruction.name == "qdrop" else {n for n, learns in zip((3, 2), learned, strict=True) if learns}
    assert {fit.iterations for fit in record.fits} == lengths
