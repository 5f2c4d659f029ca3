"""Quantizing such models through the engine, and the recipes made for them."""

from pathlib import Path

import pytest
import torch
from inceptionkit import options_for, random_weights
from torch import nn

from ptqbench.errors import UserError
from ptqbench.measuring.features import feature_info
from ptqbench.recipe.load import load_experiment
from ptqbench.running.cell import CellRun
from ptqbench.running.forecast import cell_ledger, forecast
from ptqbench.running.run import run_experiment
from ptqbench.stage.cache import Cache
from ptqbench.stage.context import RunContext, Settings

RECIPES = Path(__file__).parents[3] / "recipes"
CPU = torch.device("cpu")
FEW = "evaluation.metrics=[{ use = 'kid', reference = 'both' }, 'latent-error', 'eps-error', 'psnr']"
"""Those of the recipes' metrics that four images are enough for."""
SMALL = [
    "sampling.steps=5",
    "sampling.images=4",
    "sampling.batch=4",
    "calibration.trajectories=8",
    "calibration.samples=32",
    "calibration.batch=8",
    "evaluation.probes=2",
    'sweep.bits=["W4A8"]',
    "methods.qdiffusion.sampler.points=5",
    "methods.qdiffusion.reconstruction.iterations=1",
    "methods.qdiffusion.reconstruction.step_iterations=1",
    "methods.qdiffusion.reconstruction.batch=4",
    "methods.tfmq-dm.reconstruction.iterations=1",
    "methods.tfmq-dm.reconstruction.batch=4",
    "methods.gacq.weighter={ use = 'gacq', validation = 0.2, groups = 2 }",
]


def run(experiment, cache):
    settings = Settings(cache, "cpu", workers=1, threads=1)
    return run_experiment(experiment, settings, lambda *_: None, lambda _: None)


def layer_names(module):
    return {name for name, child in module.named_modules() if isinstance(child, nn.Conv2d | nn.Linear)}


def test_every_layer_is_quantized(pixel, source, tmp_path):
    path = pixel(num_class_embeds=3)
    recipe = {
        "recipe": {"name": "trial", "baseline": "brecq"},
        "model": {"use": "diffusers", "path": str(path)},
        "sampling": {"steps": 4, "images": 4},
        "calibration": {"trajectories": 4, "samples": 8},
        "evaluation": {"features": "digits", "metrics": ["eps-error", "psnr"], "probes": 2},
        "methods": {
            "brecq": {
                "reconstruction": {"use": "brecq", "iterations": 3, "step_iterations": 3, "batch": 4},
                "weights": {"quantizer": "adaround"},
                "activations": {"quantizer": "lsq"},
                "passes": ["skip-split"],
            }
        },
        "sweep": {"bits": ["W4A8"]},
    }
    record = run(load_experiment(recipe), tmp_path / "cache")
    full, cell = record.cells
    assert (full.status, cell.status, cell.reason) == ("ok", "ok", "")
    layers = [row for row in cell.ledger if "site" not in row]
    assert {row["name"] for row in layers} == layer_names(source(path).load(CPU).denoiser)
    assert {row["weight"]["bits"] for row in layers} == {4}
    assert {row["activation"]["bits"] for row in cell.ledger} == {8}
    assert any(len(row["partitions"]) == 2 for row in cell.ledger)
    assert 0 < cell.metrics["eps-error"].value < 10
    assert cell.weight_bytes < full.weight_bytes


@pytest.mark.parametrize(
    ("name", "kind", "methods"),
    [("cifar10_ddpm", "pixel", ["gacq"]), ("lsun_bedrooms_ldm", "latent", ["ptq4dm"])],
)
def test_recipes_plan_and_run_on_a_small_pipeline(request, tmp_path, name, kind, methods):
    path = request.getfixturevalue(kind)()
    file = RECIPES / f"{name}.toml"
    published = load_experiment(file)
    assert {cell.bits for cell in published.cells} == {"W32A32", "W4A32", "W4A8", "W8A8"}
    weights = options_for(random_weights(tmp_path / "random.pth"))
    features = f"evaluation.features={{ use = 'inception', weights = '{weights.weights}', sha256 = '{weights.sha256}' }}"
    overrides = [f"model.path={path}", *SMALL, features, FEW]
    experiment = load_experiment(file, overrides=overrides)
    ctx = RunContext(experiment, Cache(tmp_path / "cache"), CPU)
    layers = [row for row in cell_ledger(ctx, experiment.cells[-1]) if "site" not in row]
    assert len(layers) == len(layer_names(ctx.model.denoiser))
    assert forecast(ctx).wall(1) > 0
    assert [cell.name for cell in experiment.cells] == ["full-precision", "nearest", "qdiffusion", "ptq4dm", "tfmq-dm", "gacq"]
    record = run(load_experiment(file, overrides=[*overrides, f"sweep.only={methods}"]), tmp_path / "cache")
    assert [(cell.method, cell.status, cell.reason) for cell in record.cells] == [
        (method, "ok", "") for method in ("full-precision", *methods)
    ]
    assert list(record.cells[-1].metrics) == ["kid-inception@fp", "latent-error", "eps-error", "psnr@fp"]


@pytest.mark.parametrize(("name", "kind"), [("cifar10_ddpm", "pixel"), ("lsun_bedrooms_ldm", "latent")])
def test_recipes_ask_for_what_the_papers_report_and_refuse_to_guess_it(request, tmp_path, monkeypatch, name, kind):
    """FID and sFID under their own names, at 50000 images, with the published weights and no others."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    path, file = request.getfixturevalue(kind)(), RECIPES / f"{name}.toml"
    assert load_experiment(file).sampling.images == 50_000
    experiment = load_experiment(file, overrides=[f"model.path={path}", *SMALL, "sampling.images=50000"])
    ctx = RunContext(experiment, Cache(tmp_path / "cache"), CPU)
    info = feature_info(ctx)
    columns = [column for bound in experiment.evaluation.metrics for column in bound.create().names(info)]
    sets = ["fid@data", "fid@fp", "sfid@data", "sfid@fp", "kid@data", "kid@fp"]
    assert columns == [*sets, "latent-error", "eps-error", "psnr@fp"]
    assert "the Inception weights are not on this machine" in forecast(ctx).notes[0]
    with pytest.raises(UserError, match="nothing is downloaded on its own") as caught:
        run(experiment, tmp_path / "cache")
    assert "download https://" in caught.value.hint


def test_too_few_images_for_the_papers_metrics_are_a_failed_row_with_the_number_needed(pixel, tmp_path):
    weights = options_for(random_weights(tmp_path / "random.pth"))
    features = f"evaluation.features={{ use = 'inception', weights = '{weights.weights}', sha256 = '{weights.sha256}' }}"
    file, only = RECIPES / "cifar10_ddpm.toml", "evaluation.metrics=['fid']"
    experiment = load_experiment(file, overrides=[f"model.path={pixel()}", *SMALL, features, only])
    ctx = RunContext(experiment, Cache(tmp_path / "cache"), CPU)
    nearest = next(cell for cell in experiment.cells if cell.name == "nearest")
    record = CellRun(ctx, nearest, lambda *_: None).run()
    assert record.status == "failed"
    assert "4 images are too few" in record.reason
    assert "sampling.images = 2049 or more" in record.reason
