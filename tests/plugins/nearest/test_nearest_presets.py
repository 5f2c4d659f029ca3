"""The presets `nearest-minmax` and `nearest-mse` as cells of a comparison."""

from __future__ import annotations

from pathlib import Path

from enginekit import cell_of, context, experiment, recipe, run_cell


def test_both_presets_give_rows_and_learn_nothing(tmp_path: Path) -> None:
    raw = recipe()
    raw["methods"] = {"a": {"method": "nearest-minmax"}, "b": {"method": "nearest-mse"}}
    raw["recipe"]["baseline"] = "a"
    ctx = context(tmp_path, experiment("model.network=plain", raw=raw))
    records = {}
    for name, estimator in (("a", "minmax"), ("b", "mse")):
        cell = cell_of(ctx, name)
        assert cell.method.weights.range.name == cell.method.activations.range.name == estimator
        assert (cell.method.weights.per, cell.method.activations.per) == ("channel", "tensor")
        records[name] = run_cell(ctx, cell)
        assert (records[name].status, records[name].reason) == ("ok", "")
        assert records[name].budget.gradient_steps == 0
    assert records["a"].metrics["eps-error"].value != records["b"].metrics["eps-error"].value
