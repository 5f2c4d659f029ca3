"""The recipes on the embedded model run, with budgets that say nothing about the methods."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ptqbench.engine.cache import Cache
from ptqbench.engine.context import RunContext
from ptqbench.engine.forecast import cell_ledger, forecast
from ptqbench.engine.tasks import Task, perform
from ptqbench.recipe.load import load_experiment

RECIPES = Path(__file__).parents[2] / "recipes"
SMALL = (
    "sampling.steps=5",
    "sampling.images=2",
    "calibration.trajectories=8",
    "calibration.samples=40",
    "evaluation.metrics=['eps-error', 'psnr']",
    "evaluation.probes=2",
    "methods.qdiffusion.sampler={use='stride', points=5}",
    "methods.qdiffusion.reconstruction={use='brecq', iterations=1, step_iterations=1}",
    "sweep.seeds=[0]",
    "sweep.bits=['W4A8']",
)


@pytest.mark.parametrize("name", ["gacq_vs_qdiff", "smoke"])
def test_a_recipe_on_the_embedded_model_is_planned_and_runs(name, tmp_path):
    ctx = RunContext(load_experiment(RECIPES / f"{name}.toml", overrides=SMALL), Cache(tmp_path), torch.device("cpu"))
    cells = ctx.experiment.cells
    assert len(cell_ledger(ctx, cells[-1])) == len(ctx.probe.layers) + 4 * len(ctx.probe.attentions)
    assert set(forecast(ctx).cells) == {cell.id for cell in cells}
    for i, cell in enumerate(cells):
        record = perform(ctx, Task("cell", i, cell.seed, cell.id), lambda *_: None)
        assert (record["status"], record["reason"]) == ("ok", ""), cell.id
