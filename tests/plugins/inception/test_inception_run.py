"""A comparison on Inception features from end to end, with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from enginekit import context, experiment, recipe

from ptqbench.measuring.features import check_metrics
from ptqbench.running.cell import CellRun
from ptqbench.stage.context import RunContext
from ptqbench_inception import InceptionOptions


def made(cache: Path, options: InceptionOptions, reference: Path, metrics: list[object]) -> RunContext:
    """Round to nearest on the toy model, four images a cell, with Inception features."""
    raw = recipe()
    raw["evaluation"] = {
        "features": {"use": "inception", **options.model_dump()},
        "metrics": metrics,
        "reference": str(reference),
        "probes": 2,
    }
    return context(cache, experiment("model.network=plain", "sampling.images=4", methods=("nearest",), raw=raw))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four real images as an archive of the evaluator's kind."""
    path = tmp_path_factory.mktemp("reference") / "real.npz"
    np.savez(path, np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), dtype=np.uint8))
    return path


def test_a_run_on_random_weights_never_says_fid(tmp_path: Path, options: InceptionOptions, reference: Path) -> None:
    metrics = [{"use": "kid", "reference": "both"}, {"use": "precision-recall", "neighbours": 1}, "psnr"]
    ctx = made(tmp_path, options, reference, metrics)
    check_metrics(ctx)
    full, nearest = (CellRun(ctx, cell, lambda *_: None).run() for cell in ctx.experiment.cells)
    assert (full.status, nearest.status) == ("ok", "ok"), nearest.reason
    assert list(nearest.metrics) == [
        "kid-inception@data",
        "kid-inception@fp",
        "precision-inception@data",
        "recall-inception@data",
        "psnr@fp",
    ]
    assert list(full.metrics) == ["kid-inception@data", "precision-inception@data", "recall-inception@data"]
    for name, said in (
        ("fid", "4 images are too few: this distance on 2048 features needs at least 2049"),
        ("sfid", "4 images are too few: this distance on 2023 features needs at least 2024"),
        ("inception-score", "4 images in 10 splits are fewer per split than the 1008 classes"),
    ):
        ctx = made(tmp_path, options, reference, [name])
        record = CellRun(ctx, ctx.experiment.cells[0], lambda *_: None).run()
        assert record.status == "failed"
        assert said in record.reason


def test_ready_made_statistics_must_be_of_the_same_widths(tmp_path: Path, options: InceptionOptions) -> None:
    path = tmp_path / "statistics.npz"
    np.savez(path, mu=np.zeros(2048), sigma=np.eye(2048), mu_s=np.zeros(768), sigma_s=np.eye(768))
    ctx = made(tmp_path / "cache", options, path, ["fid"])
    record = CellRun(ctx, ctx.experiment.cells[0], lambda *_: None).run()
    assert "mu_s is (768,), but the recipe's features need (2023,)" in record.reason
