"""The presets `ptq4dm` and `ptq4dm-reconstructed` as cells of a comparison."""

from __future__ import annotations

from pathlib import Path

import pytest
from enginekit import cell_of, context, experiment, recipe, run_cell

from ptqbench.recipe.experiment import Experiment

FIT = {"iterations": 3, "step_iterations": 2, "batch": 8}


def made() -> Experiment:
    raw = recipe()
    raw["methods"] = {
        "plain": {"method": "ptq4dm"},
        "fitted": {"method": "ptq4dm-reconstructed", "reconstruction": FIT},
    }
    raw["recipe"]["baseline"] = "plain"
    return experiment("model.network=plain", 'sweep.bits=["W8A8", "W4A8"]', raw=raw)


@pytest.mark.parametrize("bits", ["W8A8", "W4A8"])
def test_both_presets_give_rows(tmp_path: Path, bits: str) -> None:
    ctx = context(tmp_path, made())
    plain, fitted = (run_cell(ctx, cell_of(ctx, name, bits)) for name in ("plain", "fitted"))
    for record in (plain, fitted):
        assert (record.status, record.reason) == ("ok", "")
        assert record.metrics["eps-error"].value > 0
    assert (plain.budget.gradient_steps, fitted.budget.gradient_steps) == (0, 5 * (3 + 2))


def test_nothing_is_learned_without_reconstruction(tmp_path: Path) -> None:
    method = cell_of(context(tmp_path, made()), "plain").method
    assert method.sampler.options.model_dump() == {"mean": 0.4, "std": 0.4, "compat": False}
    for site in (method.weights, method.activations):
        assert "learned" not in site.quantizer.component.traits
    assert method.activations.range.options.momentum == 0.9
    assert (method.weights.per, method.activations.per) == ("channel", "tensor")
