"""PTQD as a method: its presets, and what it does to predictions and images of a tiny model."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from enginekit import ALONE, cell_of, context, experiment, recipe, run_cell, values

from ptqbench.running.cell import CellRun, cell_key
from ptqbench.sampling.reference import calibration_states, probe_states
from ptqbench.sampling.sample import sample, to_bytes
from ptqbench.stage.cache import Costs
from ptqbench.stage.context import RunContext

STEPS, TRAJECTORIES = 5, 8


def with_methods(**methods: dict[str, Any]) -> dict[str, Any]:
    """The toy recipe with these methods, the first one as the baseline."""
    raw = recipe()
    raw["recipe"]["baseline"] = next(iter(methods))
    raw["model"]["network"] = "unet"
    raw["methods"] = methods
    return raw


def hooked(**options: Any) -> dict[str, Any]:
    return {"hooks": [{"use": "ptqd", **options}]}


@pytest.fixture(scope="module", params=[0.0, 1.0], ids=["deterministic", "stochastic"])
def ctx(request, tmp_path_factory) -> RunContext:
    """Rounding to nearest at 4 bits, plain and corrected in several ways."""
    raw = with_methods(
        nearest={},
        off=hooked(slope=False, bias=False, variance=False),
        ptqd=hooked(),
        biased=hooked(slope=False, variance=False),
        few=hooked(trajectories=3),
        calm=hooked(slope=False, bias=False),
    )
    made = experiment(f"sampling.eta={request.param}", 'sweep.bits=["W3A6"]', raw=raw)
    return context(tmp_path_factory.mktemp("cache"), made)


@pytest.fixture(scope="module")
def records(ctx):
    return {cell.name: run_cell(ctx, cell) for cell in ctx.experiment.cells if cell.method}


def test_a_hook_with_everything_off_changes_no_number(records):
    assert [record.reason for record in records.values()] == [""] * 6
    assert values(records["off"]) == values(records["nearest"])


def test_variance_calibration_alone_acts_on_stochastic_samplers_only(ctx, records):
    calm, nearest = values(records["calm"]), values(records["nearest"])
    assert calm["eps-error"] == nearest["eps-error"]
    assert (calm == nearest) is (ctx.schedule.eta == 0)


def test_the_squared_error_falls_by_the_squared_bias_on_the_states_it_was_fitted_on(ctx, records):
    """Slopes are negative in this random network, so that the bias is all that is taken back."""
    assert records
    corrected = CellRun(ctx, cell_of(ctx, "ptqd", "W3A6"), lambda *_: None).calibrated().predictor
    plain, full = dataclasses.replace(corrected, hooks=()), ctx.predictor()
    (hook,) = corrected.hooks
    assert hook.slope.tolist() == [0] * STEPS
    states = calibration_states(ctx, 0, TRAJECTORIES)
    for s in range(STEPS):
        x, step = states[:, s], torch.full((TRAJECTORIES,), s)
        with torch.no_grad():
            before, after = (
                (predictor(x, step, ALONE).eps - full(x, step, ALONE).eps).double() for predictor in (plain, corrected)
            )
        assert float(after.mean()) == pytest.approx(0, abs=1e-7)
        gain = float(before.square().mean() - after.square().mean())
        assert gain == pytest.approx(float(hook.bias[s, 0]) ** 2, rel=1e-3, abs=1e-9)
        assert gain > 0


def test_predictions_and_images_are_both_corrected(ctx, records):
    corrected = CellRun(ctx, cell_of(ctx, "ptqd", "W3A6"), lambda *_: None).calibrated().predictor
    sampling = ctx.experiment.sampling
    latents = sample(corrected, range(8), seed=sampling.seed, block="images", device=ctx.device)
    entry = ctx.cache.entry("cells", cell_key(ctx, cell_of(ctx, "ptqd", "W3A6")))
    preview = entry.load_tensors("preview.safetensors")["images"]
    assert torch.equal(to_bytes(ctx.model.decode(latents)), preview)
    probes, errors = probe_states(ctx, Costs()), []
    for s in range(STEPS):
        with torch.no_grad():
            found = corrected(probes["x"][:, s], torch.full((4,), s), ALONE).eps
        errors.append((found - probes["eps"][:, s]).double().square().mean())
    assert records["ptqd"].metrics["eps-error"].value == pytest.approx(float(torch.stack(errors).mean()), rel=1e-6)
    assert values(records["ptqd"]) != values(records["nearest"])


def test_fitting_counts_in_the_budget_and_the_tables_in_the_size(ctx, records):
    plain, both, few = (records[name] for name in ("nearest", "ptqd", "few"))
    for record, count in ((both, TRAJECTORIES), (few, 3)):
        assert record.budget.by_stage["hook-ptqd"] == 2 * count * STEPS
        assert record.budget.denoiser_evaluations - plain.budget.denoiser_evaluations == 2 * count * STEPS
        # A slope, a deviation and one channel's bias for each step.
        assert record.weight_bytes - plain.weight_bytes == record.bits_summary["hook bytes"] == 4 * 3 * STEPS
        assert record.ledger_hash != plain.ledger_hash
    assert "hook bytes" not in plain.bits_summary
    assert (both.budget.training, both.budget.validation) == (plain.budget.training, plain.budget.validation)


def test_a_fitted_hook_is_read_back(ctx, records):
    assert records
    run = CellRun(ctx, cell_of(ctx, "ptqd", "W3A6"), lambda *_: None)
    run.costs = Costs()
    made = run.calibrated()
    assert run.costs.stages["hook-ptqd"].cached
    assert made.budget == records["ptqd"].budget
