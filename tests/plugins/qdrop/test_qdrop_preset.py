"""The preset `qdrop` as a cell of a comparison."""

from __future__ import annotations

from pathlib import Path

import pytest
from enginekit import cell_of, context, experiment, recipe, run_cell


@pytest.mark.parametrize("bits", ["W4A8", "W4A32", "W32A8"])
def test_the_preset_gives_a_row(tmp_path: Path, bits: str) -> None:
    raw = recipe()
    raw["methods"] = {"mine": {"method": "qdrop", "reconstruction": {"iterations": 3, "batch": 8}}}
    raw["recipe"]["baseline"] = "mine"
    ctx = context(tmp_path, experiment("model.network=plain", f'sweep.bits=["{bits}"]', raw=raw))
    cell = cell_of(ctx, "mine", bits)
    chosen = cell.method.reconstruction.options
    assert (chosen.rounding_rate, chosen.step_rate, chosen.input_keep, chosen.activation_keep) == (1e-3, 4e-5, 0.5, 0.5)
    assert cell.method.activations.quantizer.options.gradient_scale == "lsq"
    assert cell.method.partitioner.name == "blocks"
    record = run_cell(ctx, cell)
    assert (record.status, record.reason) == ("ok", "")
    assert record.metrics["eps-error"].value > 0
    assert record.budget.gradient_steps == 5 * 3
