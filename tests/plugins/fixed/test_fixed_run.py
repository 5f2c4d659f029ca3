"""The fixed weighters in whole cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from enginekit import cell_of, context, experiment, quantized, recipe, run_cell
from safetensors.torch import load_file

from ptqbench.stage.context import RunContext

WEIGHTERS: dict[str, dict[str, Any]] = {
    "late": {"use": "late", "factor": 20.0},
    "early": {"use": "early", "factor": 20.0},
    "inverse": {"use": "inverse-error", "power": 2.0},
    "random": {"use": "random", "spread": 2.0},
}


@pytest.fixture(scope="module")
def ctx(tmp_path_factory: pytest.TempPathFactory) -> RunContext:
    raw = recipe()
    raw["methods"] = {"uniform": raw["methods"]["qdiffusion"]}
    raw["methods"] |= {name: {"extends": "uniform", "weighter": table} for name, table in WEIGHTERS.items()}
    raw["recipe"]["baseline"] = "uniform"
    return context(tmp_path_factory.mktemp("cache"), experiment("model.network=plain", raw=raw))


@pytest.mark.parametrize("name", list(WEIGHTERS))
def test_a_cell_succeeds_and_is_not_that_of_equal_weights(ctx: RunContext, name: str) -> None:
    record = run_cell(ctx, cell_of(ctx, name))
    assert (record.status, record.reason) == ("ok", "")
    mine, plain = (quantized(ctx, cell_of(ctx, method))[0].export() for method in (name, "uniform"))
    assert any(not torch.equal(mine[key], plain[key]) for key in mine)


def test_reports_are_stored_and_follow_the_sampling_step(tmp_path: Path) -> None:
    raw = recipe()
    raw["methods"] = {"inverse": {**raw["methods"]["qdiffusion"], "weighter": WEIGHTERS["inverse"]}}
    raw["recipe"]["baseline"] = "inverse"
    ctx = context(tmp_path, experiment("model.network=plain", raw=raw))
    quantized(ctx, cell_of(ctx, "inverse"))
    paths = sorted(tmp_path.glob("reconstruct-*/*/weighter-*.safetensors"))
    assert len(paths) == 2 * 5
    for path in paths:
        report = load_file(path)
        assert float(report["weights"].mean()) == pytest.approx(1)
        # One weight for each of the five steps: that of its denoising error.
        assert len(report["weights"].unique()) == 5
        for s in range(5):
            assert len(report["weights"][report["step"] == s].unique()) == 1


def test_a_threshold_that_changes_nothing_fails_the_cell(tmp_path: Path) -> None:
    override = "methods.qdiffusion.weighter={use='late', threshold=1}"
    ctx = context(tmp_path, experiment("model.network=plain", override, methods=("qdiffusion",)))
    record = run_cell(ctx, cell_of(ctx, "qdiffusion"))
    assert record.status == "failed"
    assert "late: timesteps below 1 hold for no training sample" in record.reason
