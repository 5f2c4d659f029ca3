"""Meta weighting in whole cells: what equals plain weighting bit for bit, what is reported, and both presets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from enginekit import cell_of, context, experiment, quantized, recipe, run_cell
from safetensors.torch import load_file

PLAIN = "model.network=plain"
META = {"use": "sample-frequency", "validation": 0.25, "groups": 2, "every": 3}


def with_methods(**methods: dict[str, Any]) -> dict[str, Any]:
    raw = recipe()
    base = raw["methods"]["qdiffusion"]
    raw["methods"] = {"qdiffusion": base, **{name: {"extends": "qdiffusion", **table} for name, table in methods.items()}}
    return raw


def test_every_unit_reports_its_weights(tmp_path: Path) -> None:
    meta = {"weighter": META, "losses": ["output", "haar"]}
    ctx = context(tmp_path, experiment(PLAIN, raw=with_methods(meta=meta)))
    _, quantizer = quantized(ctx, cell_of(ctx, "meta"))
    assert (quantizer.needs.validation, quantizer.needs.groups) == (0.25, 2)
    reports = [
        (load_file(path), updates)
        for phase, updates in (("rounding", 2), ("steps", 1))
        for path in sorted(tmp_path.glob(f"reconstruct-{phase}/*/weighter-*.safetensors"))
    ]
    assert len(reports) == 2 * 5
    for report, updates in reports:
        assert report["weights"].shape == report["step"].shape == (30,)
        assert float(report["weights"].mean()) == pytest.approx(1, abs=1e-5)
        assert float(report["weights"].std()) > 1e-4
        assert report["bands"].shape == (5, 4)
        torch.testing.assert_close(report["bands"].sum(1), torch.ones(5))
        assert float(report["bands"].min()) >= 0.01 - 1e-6
        assert float(report["bands"].std()) > 1e-4
        assert len(report["validation"]) == len(report["regulariser"]) == updates
        assert all(bool(torch.isfinite(value).all()) for value in report.values())


def test_bands_without_the_plain_error_fail_the_cell(tmp_path: Path) -> None:
    ctx = context(tmp_path, experiment(PLAIN, raw=with_methods(meta={"weighter": META, "losses": ["haar"]})))
    record = run_cell(ctx, cell_of(ctx, "meta"))
    assert record.status == "failed"
    assert "output" in record.reason
