"""The preset `q-diffusion` as a cell of a comparison."""

from __future__ import annotations

from pathlib import Path

from enginekit import cell_of, context, experiment, recipe, run_cell


def test_the_preset_gives_a_row(tmp_path: Path) -> None:
    raw = recipe()
    short = {"iterations": 3, "step_iterations": 2, "batch": 8}
    raw["methods"] = {
        "mine": {"method": "q-diffusion", "reconstruction": short, "sampler": {"points": 5}},
        "published": {"method": "q-diffusion"},
    }
    raw["recipe"]["baseline"] = "mine"
    ctx = context(tmp_path, experiment("model.network=plain", raw=raw))
    published = cell_of(ctx, "published").method
    fit = published.reconstruction.options
    assert (fit.iterations, fit.rounding_rate, fit.step_iterations, fit.step_rate) == (20_000, 1e-3, 5_000, 4e-4)
    assert published.sampler.options.points == 20
    # Released Q-Diffusion has no layers of 8 bits at the ends.
    assert [bound.name for bound in published.passes] == ["skip-split"]
    record = run_cell(ctx, cell_of(ctx, "mine"))
    assert (record.status, record.reason) == ("ok", "")
    assert record.budget.gradient_steps == 5 * (3 + 2)
