"""The fixed weighters in whole cells."""

from __future__ import annotations

from pathlib import Path

import pytest
from enginekit import cell_of, context, experiment, quantized, run_cell
from safetensors.torch import load_file


def test_reports_are_stored_and_follow_the_sampling_step(tmp_path: Path) -> None:
    override = "methods.qdiffusion.weighter={use='inverse-error', power=2.0}"
    ctx = context(tmp_path, experiment("model.network=plain", override, methods=("qdiffusion",)))
    quantized(ctx, cell_of(ctx, "qdiffusion"))
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
