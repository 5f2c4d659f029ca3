"""Experiments on the toy model, small enough for tests, and ways to run their cells."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ptqbench.fitting.inner import StepFacts, UnitModules, UnitProblem
from ptqbench.fitting.losses import UnitLoss, per_sample_loss
from ptqbench.fitting.quantize import MethodQuantizer
from ptqbench.fitting.unit_data import UnitData
from ptqbench.plugin.component import NoOptions
from ptqbench.plugin.manager import PluginManager
from ptqbench.quant.layer import StepContext
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.recipe.experiment import Cell, Experiment
from ptqbench.recipe.load import load_experiment
from ptqbench.results.record import CellRecord
from ptqbench.roles.loss import LossTerm, Outcome
from ptqbench.running.cell import CellRun, cell_quantizer
from ptqbench.stage.cache import Cache, Costs
from ptqbench.stage.context import RunContext

ALONE: dict[str, dict[str, torch.Tensor]] = {"cond": {}}
"""The conditions, by branch, of a model that has none."""

TOY = Path(__file__).parent / "toy_plugin.py"

RECIPE: dict[str, Any] = {
    "recipe": {"name": "toy", "baseline": "qdiffusion", "plugins": [str(TOY)]},
    "model": {"use": "toy", "network": "plain"},
    "sampling": {"steps": 5, "images": 8, "seed": 3, "batch": 4},
    "calibration": {"trajectories": 8, "samples": 40, "batch": 16},
    "evaluation": {"features": "toy", "metrics": ["eps-error", "psnr", "fd"], "probes": 4},
    "methods": {
        "nearest": {},
        "qdiffusion": {
            "sampler": {"use": "stride", "points": 5},
            "reconstruction": {
                "use": "brecq",
                "iterations": 6,
                "rounding_rate": 0.05,
                "step_iterations": 3,
                "step_rate": 0.001,
                "batch": 8,
            },
            "weights": {"quantizer": "adaround", "range": {"use": "mse", "candidates": 8}},
            "activations": {"quantizer": "lsq", "range": "ema"},
            "passes": ["first-last-8bit", "skip-split"],
        },
        "ptq4dm": {"extends": "qdiffusion", "sampler": "normal"},
        "gacq": {"extends": "qdiffusion", "weighter": {"use": "gacq", "every": 3, "validation": 0.25, "groups": 2}},
    },
    "sweep": {"bits": ["W4A8"], "seeds": [0]},
}


installed = cache(PluginManager)
"""The installed plugins, found once."""


def recipe() -> dict[str, Any]:
    """A fresh copy of the recipe."""
    return copy.deepcopy(RECIPE)


def experiment(*overrides: str, methods: tuple[str, ...] = (), raw: dict[str, Any] | None = None) -> Experiment:
    """The recipe with `key.path=value` overrides, with all methods or some."""
    data = raw or recipe()
    if methods:
        data["methods"] = {name: table for name, table in data["methods"].items() if name in methods}
        data["recipe"]["baseline"] = methods[0]
    # What other files bring is for that recipe alone.
    known = installed() if data["recipe"].get("plugins") == [str(TOY)] else None
    return load_experiment(data, overrides=overrides, manager=known)


def context(cache: Path, made: Experiment | None = None) -> RunContext:
    """A run's context on the CPU."""
    return RunContext(made or experiment(), Cache(cache), torch.device("cpu"))


def cell_of(ctx: RunContext, name: str, bits: str = "W4A8") -> Cell:
    """A cell by method and bits."""
    return next(cell for cell in ctx.experiment.cells if (cell.name, cell.bits) == (name, bits))


def quantized(ctx: RunContext, cell: Cell) -> tuple[QuantizedDenoiser, MethodQuantizer]:
    """Run the quantization stages of a cell."""
    quantizer = cell_quantizer(ctx, cell, Costs(), lambda *_: None)
    return quantizer.run()[0], quantizer


def run_cell(ctx: RunContext, cell: Cell) -> CellRecord:
    """A whole cell."""
    return CellRun(ctx, cell, lambda *_: None).run()


def values(record: CellRecord) -> dict[str, tuple[float, float, float, int]]:
    """A record's metrics as plain numbers."""
    return {name: (m.value, m.low, m.high, m.n) for name, m in record.metrics.items()}


class OutputLoss(LossTerm):
    """The plain loss of a unit, of the tests' own making."""

    def losses(self, outcome: Outcome) -> dict[str, torch.Tensor]:
        pairs = zip(outcome.output, outcome.target, strict=True)
        return {"": torch.stack([per_sample_loss(o, t, outcome.power) for o, t in pairs]).sum(0)}


PLAIN = UnitLoss([("output", OutputLoss(NoOptions()))])
FACTS = StepFacts(torch.tensor([900, 700, 500, 300, 100]), lambda: torch.ones(5), lambda: torch.ones(5))


def unit_problem(
    modules: UnitModules | torch.nn.Module,
    kinds: dict[str, str],
    data: UnitData,
    steps: StepContext | None = None,
    loss: UnitLoss = PLAIN,
) -> UnitProblem:
    """A unit as a value; a bare module stands for both its quantized and its full-precision form."""
    both = modules if isinstance(modules, UnitModules) else UnitModules(modules, modules)
    return UnitProblem(both, kinds, data, loss, FACTS, steps or StepContext(5), torch.device("cpu"))


def files(cache: Path, pattern: str = "*/*/*") -> dict[str, int]:
    """Modification times (ns) of the results in a cache; locks, checksums and marks of use do not count."""
    found = [p for p in sorted(cache.glob(pattern)) if not p.name.startswith(".")]
    return {str(p.relative_to(cache)): p.stat().st_mtime_ns for p in found}
