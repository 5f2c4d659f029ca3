"""Every component that is shipped holds to the contract, with options where it has no use without them or takes long."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import perceptualkit
import pytest
from diffusers import DDIMPipeline, DDIMScheduler
from inceptionkit import random_weights

from ptqbench.plugin.manager import PluginManager
from ptqbench.testing import checks, components
from ptqbench.testing.conformance import run
from ptqbench.testing.deployment import exports, programs
from ptqbench.testing.executors import executes
from ptqbench.testing.importing import imports_quietly
from ptqbench.testing.networks import build_unet
from ptqbench.testing.trial import Trial

RECORDS = PluginManager(block="").components()
OPTIONS: dict[str, dict[str, Any]] = {
    "density-diversity": {"tap": ["attention"]},
    "random-pipeline": {"kind": "ddpm"},
    "gacq": {"groups": 2},
    "attention": {"softmax": 16},
    "float-layers": {"patterns": ["first"]},
    "layer-bits": {"patterns": ["first"], "weights": 8},
}
EXTRAS = ("onnx", "onnxruntime", "openvino", "ray")
"""Extras that trace the network or start Ray, which takes longer than all other checks: `ptqbench plugin check` runs them."""


def options_of(name: str, folder: Path) -> dict[str, Any]:
    """Options of a component; files that it needs are made."""
    if name == "diffusers":
        DDIMPipeline(build_unet(), DDIMScheduler(clip_sample=False)).save_pretrained(folder)
        return {"path": str(folder)}
    if name == "inception":
        weights = random_weights(folder / "weights.pth")
        return {"weights": str(weights), "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    if name in ("lpips", "clip-score", "dinov2"):
        pytest.importorskip("lpips")
        return perceptualkit.options_of(name, folder)
    return OPTIONS.get(name, {})


@pytest.fixture(scope="module")
def trials(tmp_path_factory) -> Callable[[str], list[Trial]]:
    """A plugin's components, with files of their own."""

    @cache
    def of(plugin: str) -> list[Trial]:
        folder = tmp_path_factory.mktemp("files")
        return components(plugin, {r.name: options_of(r.name, folder) for r in RECORDS if r.plugin.name == plugin})

    return of


@pytest.mark.parametrize("record", RECORDS, ids=[f"{record.role}-{record.name}" for record in RECORDS])
def test_conformance(record, trials):
    (trial,) = [t for t in trials(record.plugin.name) if (t.bound.role, t.bound.name) == (record.role, record.name)]
    for one in checks(record.role):
        # All of them are imported in one fresh process below.
        if one is not imports_quietly and not (one in (exports, programs, executes) and record.name in EXTRAS):
            run(one, trial)


def test_every_component_and_option_is_explained():
    for record in RECORDS:
        assert record.entry.summary and not record.entry.summary.endswith("."), record.name
        assert all(field.description for field in record.component.options.model_fields.values()), record.name
