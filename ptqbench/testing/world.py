"""A comparison small enough for tests: a random model, calibration samples, one method with the component on trial in it."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ptqbench.fitting.hooks import Corrected, HookFitter
from ptqbench.plugin.component import Bound, Component, Options
from ptqbench.plugin.hookspecs import hookimpl
from ptqbench.plugin.manager import PluginManager
from ptqbench.plugin.sources import PluginInfo
from ptqbench.recipe.experiment import Cell, Experiment
from ptqbench.recipe.load import load_experiment
from ptqbench.roles.model import Conditions, DiffusionModel, ModelSource
from ptqbench.roles.reconstruction import Course, Phase
from ptqbench.running.cell import cell_quantizer
from ptqbench.stage.arithmetic import arithmetic
from ptqbench.stage.cache import Cache, Costs
from ptqbench.stage.context import RunContext
from ptqbench.testing.networks import SHAPE, build_plain, build_unet, call_plain, call_unet

PLUGIN = "conformance"
STEPS, TRAJECTORIES, SAMPLES = 20, 8, 80
ITERATIONS = 2
"""Of each unit in each phase, whatever the reconstruction asks for."""

RECIPE: dict[str, Any] = {
    "recipe": {"name": "conformance", "baseline": "trial"},
    "sampling": {"steps": STEPS, "images": 4, "batch": 4},
    "calibration": {"trajectories": TRAJECTORIES, "samples": SAMPLES, "batch": 32},
    "evaluation": {"metrics": ["eps-error"], "probes": 2},
    "sweep": {"bits": ["W4A8"], "seeds": [0]},
}
METHOD: dict[str, Any] = {
    "sampler": "random",
    "reconstruction": "brecq",
    "weights": {"quantizer": "adaround", "range": "minmax"},
    "activations": {"quantizer": "lsq", "range": "minmax"},
}
CLOSED: dict[str, Any] = {
    "reconstruction": "none",
    "weights": {"quantizer": "nearest", "range": "minmax"},
    "activations": {"quantizer": "affine", "range": "minmax"},
}
"""The method where nothing is learned."""

Network = Literal["plain", "unet"]


class TinyOptions(Options):
    """Which of the two networks."""

    network: Network = "plain"


class TinySource(ModelSource):
    """Linear betas, random weights."""

    options: TinyOptions

    def fingerprint(self) -> str:
        return self.options.network

    def load(self, device: torch.device) -> DiffusionModel:
        plain = self.options.network == "plain"
        net = (build_plain() if plain else build_unet()).eval().requires_grad_(False)
        evaluate = call_plain if plain else call_unet
        betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)

        def call(denoiser: nn.Module, x: Tensor, t: Tensor, cond: Conditions) -> Tensor:
            return evaluate(denoiser, x, t)

        return DiffusionModel(net, call, (1 - betas).cumprod(0), SHAPE, lambda x: x.clamp(-1, 1))


@hookimpl
def ptqbench_components() -> list[Component]:
    """The model of all trials."""
    return [Component("model", "tiny", "a tiny random model", TinySource, TinyOptions)]


def experiment(
    manager: PluginManager, method: Mapping[str, Any], network: Network, bits: str = "W4A8", **evaluation: Any
) -> Experiment:
    """The comparison with one method, and its reconstruction cut short."""
    if all(info.name != PLUGIN for info in manager.plugins):
        info = PluginInfo(PLUGIN, "ptqbench", "", __name__, Path(__file__), "a tiny random model")
        manager.register(SimpleNamespace(ptqbench_components=ptqbench_components), info)
    raw = RECIPE | {"model": {"use": f"{PLUGIN}/tiny", "network": network}, "methods": {"trial": dict(method)}}
    raw["sweep"] = RECIPE["sweep"] | {"bits": [bits]}
    raw["evaluation"] = RECIPE["evaluation"] | evaluation
    made = load_experiment(raw, manager=manager)
    return dataclasses.replace(made, cells=tuple(_shortened(cell) for cell in made.cells))


def _shortened(cell: Cell) -> Cell:
    if cell.method is None:
        return cell
    chosen = cell.method.reconstruction
    kind: Any = chosen.component.load()

    def course(self: Any, phase: Phase) -> Course:
        found: Course = kind.course(self, phase)
        return dataclasses.replace(found, iterations=min(found.iterations, ITERATIONS), batch=min(found.batch, 8))

    short = type(kind.__name__, (kind,), {"course": course, "__module__": kind.__module__})
    component = dataclasses.replace(chosen.component, target=short)
    bound = Bound(component, chosen.options, chosen.plugin, chosen.fingerprint)
    return dataclasses.replace(cell, method=dataclasses.replace(cell.method, reconstruction=bound))


@contextmanager
def world(made: Experiment) -> Iterator[RunContext]:
    """A run's context with a cache of its own, computing as runs do."""
    with tempfile.TemporaryDirectory() as folder, arithmetic(1) as check:
        yield RunContext(made, Cache(Path(folder)), torch.device("cpu"), 1)
        check()


def quantize(manager: PluginManager, method: Mapping[str, Any], network: Network) -> dict[str, Tensor]:
    """Quantize the model by a method from the start, hooks and all: its codes and grids, and a prediction."""
    made = experiment(manager, method, network)
    (cell,) = [cell for cell in made.cells if cell.method is not None]
    assert cell.method is not None
    with world(made) as ctx:
        q, state = cell_quantizer(ctx, cell, Costs(), lambda *_: None).run()
        corrected = Corrected(ctx.predictor(q.module, q.context), state)
        for chosen in cell.method.hooks:
            corrected = HookFitter(ctx, Costs(), lambda *_: None, cell.seed).fit(corrected, chosen)
        x, step = inputs(), torch.arange(4)
        with torch.inference_mode():
            eps = corrected.predictor(x, step, ctx.model.conditions_of(range(4), ctx.device, "calibration")).eps
        return q.export() | {"prediction": eps.clone()}


def inputs(n: int = 4) -> Tensor:
    """Latents (n, C, H, W)."""
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(0))
