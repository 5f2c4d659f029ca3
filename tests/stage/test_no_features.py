"""A recipe whose metrics read no features need not name an extractor."""

from __future__ import annotations

import pytest
from enginekit import context, experiment, recipe, run_cell

from ptqbench.errors import UserError
from ptqbench.measuring.features import check_metrics
from ptqbench.measuring.protocol import protocol
from ptqbench.stage.context import RunContext


def made(folder, *metrics: str, features: bool = False) -> RunContext:
    raw = recipe()
    raw["evaluation"]["metrics"] = list(metrics)
    if not features:
        del raw["evaluation"]["features"]
    return context(folder, experiment(methods=("nearest",), raw=raw))


def test_metrics_on_predictions_and_pixels_give_the_same_numbers_without_an_extractor(tmp_path):
    ctx = made(tmp_path / "without", "eps-error", "psnr")
    check_metrics(ctx)
    with_features = made(tmp_path / "with", "eps-error", "psnr", features=True)
    for bare, full in zip(ctx.experiment.cells, with_features.experiment.cells, strict=True):
        without, known = run_cell(ctx, bare), run_cell(with_features, full)
        assert (without.status, without.reason) == ("ok", "")
        assert without.metrics == known.metrics
    assert protocol(ctx)["features"] == "none"
    assert not (tmp_path / "without" / "features").exists()


def test_a_metric_that_reads_features_is_refused_before_the_run(tmp_path):
    with pytest.raises(UserError, match='the metric "fd" reads features, and the recipe names none') as caught:
        check_metrics(made(tmp_path, "psnr", "fd"))
    assert "ptqbench list --role features" in caught.value.hint
