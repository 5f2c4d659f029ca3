"""TDQ in whole cells: a table for every step, a refusal without steps, and the preset."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from enginekit import cell_of, context, experiment, quantized, run_cell

from ptqbench.quant.model import QuantizedDenoiser

TDQ = "methods.qdiffusion.activations={quantizer={use='tdq', base='%s'}, range='ema', steps='each'}"


def network(folder: Path, *overrides: str) -> QuantizedDenoiser:
    ctx = context(folder, experiment("model.network=plain", *overrides, methods=("qdiffusion",)))
    return quantized(ctx, cell_of(ctx, "qdiffusion"))[0]


def scales(q: QuantizedDenoiser) -> dict[str, torch.Tensor]:
    return {key: value for key, value in q.export().items() if "|a." in key and key.endswith(".scale")}


@pytest.mark.parametrize("base", ["shared", "each"])
def test_learned_step_sizes_become_a_table_over_steps(tmp_path: Path, base: str) -> None:
    fast = ("methods.qdiffusion.reconstruction.step_iterations=10", "methods.qdiffusion.reconstruction.step_rate=0.01")
    q = network(tmp_path, TDQ % base, *fast)
    assert not [name for name, _ in q.module.named_parameters() if "factors" in name]
    tables = scales(q)
    assert tables
    for table in tables.values():
        assert table.shape == (5, 1)
        assert float(table.min()) > 0
        assert len(table.unique()) == 5


def test_a_learned_cell_samples_images_and_learns_with_a_weighter_that_looks_ahead(tmp_path: Path) -> None:
    gacq = "methods.qdiffusion.weighter={use='gacq', validation=0.25, every=3, groups=2}"
    ctx = context(tmp_path, experiment("model.network=plain", TDQ % "shared", gacq, methods=("qdiffusion",)))
    record = run_cell(ctx, cell_of(ctx, "qdiffusion"))
    assert (record.status, record.reason) == ("ok", "")
    assert record.metrics["eps-error"].value > 0


def test_without_steps_the_cell_says_what_to_set(tmp_path: Path) -> None:
    override = "methods.qdiffusion.activations={quantizer='tdq', range='ema'}"
    ctx = context(tmp_path, experiment("model.network=plain", override, methods=("qdiffusion",)))
    record = run_cell(ctx, cell_of(ctx, "qdiffusion"))
    assert record.status == "failed"
    assert "steps = 1" in record.reason and 'activations.steps = "each"' in record.reason
