"""The preset `q-diffusion` as a cell of a comparison."""

from __future__ import annotations

from pathlib import Path

from enginekit import cell_of, context, experiment, recipe, run_cell


def test_the_preset_gives_a_row(tmp_path: Path) -> None:
    raw = recipe()
    short = {"iterations": 3, "step_iterations": 2, "batch": 8}
    raw["methods"] = {"mine": {"method": "q-diffusion", "reconstruction": short, "sampler": {"points": 5}}}
    raw["recipe"]["baseline"] = "mine"
    ctx = context(tmp_path, experiment("model.network=plain", raw=raw))
    # Released Q-Diffusion has no layers of 8 bits at the ends.
    assert [bound.name for bound in cell_of(ctx, "mine").method.passes] == ["skip-split"]
    record = run_cell(ctx, cell_of(ctx, "mine"))
    assert (record.status, record.reason) == ("ok", "")
    assert record.budget.gradient_steps == 5 * (3 + 2)
