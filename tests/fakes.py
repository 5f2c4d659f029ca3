"""Components of every role whose targets are never loaded, and a recipe that uses them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ptqbench import Component, Options, hookimpl
from ptqbench.plugin.component import Preset
from ptqbench.plugin.manager import PluginManager
from ptqbench.plugin.sources import PluginInfo

TARGET = "fakes:Never"


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


@hookimpl
def ptqbench_samplers() -> list[Component]:
    return [Component("random", "any", TARGET), Component("stride", "even", TARGET, StrideOptions)]


@hookimpl
def ptqbench_weighters() -> list[Component]:
    learned = frozenset({"learned"})
    return [
        Component("uniform", "equal", TARGET),
        Component("gacq", "aligned", TARGET, GacqOptions, paper="arXiv:1", deviations=("one",), traits=learned),
    ]


@hookimpl
def ptqbench_reconstructions() -> list[Component]:
    return [
        Component("none", "nothing", TARGET, traits=frozenset({"closed-form"})),
        Component("brecq", "blocks", TARGET, FitOptions, defaults={"partitioner": "blocks"}),
    ]


@hookimpl
def ptqbench_losses() -> list[Component]:
    haar = Component("haar", "bands", TARGET, HaarOptions, deviations=("two",), released=("goes on",))
    return [Component("output", "squares", TARGET), haar]


@hookimpl
def ptqbench_weight_quantizers() -> list[Component]:
    learned = frozenset({"learned"})
    return [Component("nearest", "round", TARGET), Component("adaround", "learn", TARGET, traits=learned)]


@hookimpl
def ptqbench_activation_quantizers() -> list[Component]:
    return [Component("affine", "fixed", TARGET), Component("lsq", "learn", TARGET, traits=frozenset({"learned"}))]


@hookimpl
def ptqbench_ranges() -> list[Component]:
    return [Component("minmax", "extrema", TARGET), Component("mse", "search", TARGET)]


@hookimpl
def ptqbench_passes() -> list[Component]:
    return [Component("ends", "8 bits at both ends", TARGET), Component("skip-split", "two grids", TARGET)]


@hookimpl
def ptqbench_partitioners() -> list[Component]:
    return [Component("blocks", "blocks", TARGET), Component("layers", "layers", TARGET)]


@hookimpl
def ptqbench_sampler_hooks() -> list[Component]:
    return [Component("ptqd", "correct", TARGET), Component("shift", "move", TARGET)]


@hookimpl
def ptqbench_models() -> list[Component]:
    return [Component("digits", "a model", TARGET, DigitsOptions)]


@hookimpl
def ptqbench_features() -> list[Component]:
    return [Component("digits", "features", TARGET)]


@hookimpl
def ptqbench_metrics() -> list[Component]:
    return [Component("fd", "distance", TARGET), Component("kid", "kernel distance", TARGET)]


@hookimpl
def ptqbench_reporters() -> list[Component]:
    return [Component("markdown", "text", TARGET), Component("csv", "figures", TARGET)]


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
def ptqbench_presets() -> list[Preset]:
    notes = {"deviations": ("three",), "unstated": ("how many; four",), "released": ("has five",)}
    return [Preset("bands", "fit in bands", PRESET, paper="arXiv:2", **notes)]


def fake_manager() -> PluginManager:
    """A manager that knows the fakes and nothing else."""
    import fakes

    manager = PluginManager(installed=False)
    manager.register(fakes, PluginInfo("fakes", "fakedist", "1.2", "fakes"))
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
