"""Whole cells with the weighter in each schedule, validated on the unit and on the network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from enginekit import cell_of, context, experiment, quantized, recipe

from ptqbench.measuring.state_hash import state_hash
from ptqbench.stage.cache import Entry

WEIGHTER = {"use": "gacq", "validation": 0.25, "updates": 2, "groups": 2}
VARIANTS = [
    {"schedule": "before"},
    {"schedule": "each", "matching": 0.0},
    {"validate_on": "network", "gain": True, "matching_space": "trainables", "matching_measure": "cosine"},
]


def fitted(cache: Path, *overrides: str, **changes: object) -> tuple[str, Entry]:
    """The hash of what the cell came to, and the stored result of its rounding phase."""
    raw = recipe()
    raw["methods"]["gacq"] |= changes
    ctx = context(cache, experiment("sweep.bits=['W4A32']", *overrides, raw=raw, methods=("qdiffusion", "gacq")))
    q, quantizer = quantized(ctx, cell_of(ctx, "gacq", "W4A32"))
    return state_hash(q), quantizer.fitted["rounding"]


def spread(entry: Entry) -> float:
    """The largest standard deviation of a unit's weights."""
    files = sorted(entry.path.glob("weighter-*"))
    return max(float(entry.load_tensors(file.name)["weights"].std()) for file in files)


@pytest.fixture(scope="module")
def equal(cache) -> str:
    found, entry = fitted(cache, weighter=WEIGHTER | {"score_rate": 0.0})
    assert spread(entry) == 0
    return found


@pytest.mark.parametrize("variant", VARIANTS, ids=json.dumps)
def test_a_cell_learns_weights_that_change_its_roundings(variant, cache, equal) -> None:
    found, entry = fitted(cache, weighter=WEIGHTER | variant)
    assert spread(entry) > 0.01
    assert found != equal


def test_weights_of_a_temporal_block_are_validated_on_the_network(cache) -> None:
    """A unit that is no module of its own: its layers lie all over the network."""
    _, entry = fitted(
        cache, "model.network=unet", partitioner="temporal-blocks", weighter=WEIGHTER | {"validate_on": "network", "updates": 1}
    )
    names = list(entry.load_json("units.json"))
    temporal = next(i for i, name in enumerate(names) if "tempor" in name)
    report = entry.load_tensors(f"weighter-{temporal:03d}.safetensors")
    assert float(report["weights"].std()) > 0 and float(report["validation"].min()) > 0
