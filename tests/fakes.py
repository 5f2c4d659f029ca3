"""Components of every role whose targets are never loaded, and a recipe that uses them."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ptqbench import Component, Options, hookimpl
from ptqbench.plugin.component import Preset
from ptqbench.plugin.manager import PluginManager
from ptqbench.plugin.sources import PluginInfo

TARGET = "fakes:Never"

SMALL = """
[model]
use = "digits"
[sampling]
steps = 10
images = 16
[calibration]
trajectories = 8
samples = 32
[evaluation]
features = "digits"
metrics = ["fd"]
"""
"""A recipe file without [recipe] and methods."""


class StrideOptions(Options):
    """Options of the sampler "stride"."""

    points: int = Field(10, ge=1, le=100, description="number of sampling steps to take from")


class GacqOptions(Options):
    """Options of the weighter "gacq"."""

    groups: int = Field(5, ge=1, description="timestep groups")
    temperature: float = Field(1.0, gt=0, description="softmax temperature")
    mode: Literal["paper", "released"] = Field("paper", description="which reading")


class FitOptions(Options):
    """Options of the reconstruction "brecq"."""

    iterations: int = Field(100, ge=1, description="optimiser steps")
    betas: tuple[float, ...] = Field((20.0, 2.0), description="annealing, from and to")
    warmup: int | Literal["auto"] = Field("auto", description="steps without penalty")


class HaarOptions(Options):
    """Options of the loss term "haar"."""

    levels: int = Field(2, ge=1, description="levels of the transform")


class DigitsOptions(Options):
    """Options of the model."""

    folder: str = Field("", description="where weights are")


PRESET = {
    "sampler": {"use": "stride", "points": 4},
    "reconstruction": {"use": "brecq", "iterations": 9},
    "losses": ["output", {"use": "haar", "levels": 3}],
    "weights": {"quantizer": "adaround"},
    "activations": {"quantizer": "lsq", "steps": "each"},
    "passes": ("ends",),
    "hooks": ["ptqd"],
}
"""The table of the preset "bands"."""


@hookimpl
def ptqbench_components() -> list[Component | Preset]:
    learned = frozenset({"learned"})
    notes = {"deviations": ("three",), "unstated": ("how many; four",), "released": ("has five",)}
    return [
        Component("sampler", "random", "any", TARGET),
        Component("sampler", "stride", "even", TARGET, StrideOptions),
        Component("weighter", "uniform", "equal", TARGET),
        Component("weighter", "gacq", "aligned", TARGET, GacqOptions, paper="arXiv:1", deviations=("one",), traits=learned),
        Component("reconstruction", "none", "nothing", TARGET, traits=frozenset({"closed-form"})),
        Component("reconstruction", "brecq", "blocks", TARGET, FitOptions, defaults={"partitioner": "blocks"}),
        Component("loss", "output", "squares", TARGET),
        Component("loss", "haar", "bands", TARGET, HaarOptions, deviations=("two",), released=("goes on",)),
        Component("weight-quantizer", "nearest", "round", TARGET),
        Component("weight-quantizer", "adaround", "learn", TARGET, traits=learned),
        Component("activation-quantizer", "affine", "fixed", TARGET),
        Component("activation-quantizer", "lsq", "learn", TARGET, traits=learned),
        Component("range", "minmax", "extrema", TARGET),
        Component("range", "mse", "search", TARGET),
        Component("pass", "ends", "8 bits at both ends", TARGET),
        Component("pass", "skip-split", "two grids", TARGET),
        Component("partitioner", "blocks", "blocks", TARGET),
        Component("partitioner", "layers", "layers", TARGET),
        Component("sampler-hook", "ptqd", "correct", TARGET),
        Component("sampler-hook", "shift", "move", TARGET),
        Component("network-quantizer", "library", "all of it", TARGET),
        Component("solver", "ddim", "steps", TARGET),
        Component("model", "digits", "a model", TARGET, DigitsOptions),
        Component("features", "digits", "features", TARGET),
        Component("metric", "fd", "distance", TARGET),
        Component("metric", "kid", "kernel distance", TARGET),
        Component("reporter", "markdown", "text", TARGET),
        Component("reporter", "csv", "figures", TARGET),
        Preset("bands", "fit in bands", PRESET, paper="arXiv:2", **notes),
    ]


def fake_manager(files: Iterable[str | Path] = ()) -> PluginManager:
    """A manager that knows the fakes and these files, and nothing else."""
    import fakes

    manager = PluginManager(installed=False)
    manager.register(fakes, PluginInfo("fakes", "fakedist", "1.2", "fakes"))
    for file in files:
        manager.load_file(file)
    return manager


RECIPE: dict[str, Any] = {
    "recipe": {"name": "trial", "baseline": "plain"},
    "model": {"use": "digits"},
    "sampling": {"steps": 10, "images": 16},
    "calibration": {"trajectories": 8, "samples": 32},
    "evaluation": {"features": "digits", "metrics": ["fd"], "probes": 4},
    "methods": {
        "rtn": {},
        "plain": {
            "sampler": {"use": "stride", "points": 5},
            "reconstruction": {"use": "brecq", "iterations": 7},
            "weights": {"quantizer": "adaround", "range": "mse"},
            "activations": {"quantizer": "lsq"},
            "passes": ["ends", "skip-split"],
        },
        "gacq": {"extends": "plain", "weighter": "gacq"},
    },
    "sweep": {"bits": ["W4A8"], "seeds": [0]},
}


def recipe() -> dict[str, Any]:
    """A fresh copy of a correct recipe."""
    return copy.deepcopy(RECIPE)


def entry_point_distribution(folder: Path, dist: str, entries: dict[str, str], sources: dict[str, str]) -> Path:
    """An installed distribution, simulated: a folder for `sys.path` with modules and a dist-info."""
    info = folder / (dist.replace("-", "_") + "-1.0.dist-info")
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.0\n")
    lines = "".join(f"{name} = {value}\n" for name, value in entries.items())
    (info / "entry_points.txt").write_text(f"[ptqbench]\n{lines}")
    for name, source in sources.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return folder
