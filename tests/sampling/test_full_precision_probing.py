"""What the full-precision model tells samplers and weighters: features along trajectories, and its own error by step."""

from __future__ import annotations

import pytest
import torch
from enginekit import cell_of, context, experiment, quantized

from ptqbench.errors import CellFailedError
from ptqbench.measuring.measure import Measurement
from ptqbench.running.cell import CellRun
from ptqbench.sampling.reference import calibration_states, denoising_error, predict_states, probe_states, step_features
from ptqbench.sampling.rng import stream
from ptqbench.stage.cache import Costs

TAP = "attention"


def test_features_are_the_inputs_of_the_module_along_trajectories(ctx):
    states = calibration_states(ctx, 0, 6)
    found = step_features(ctx, 0, TAP, 6)
    assert found.shape[:2] == (ctx.schedule.steps, 6)
    seen = []
    hook = ctx.model.denoiser.get_submodule(TAP).register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    try:
        with torch.no_grad():
            for s in (0, 3):
                t = ctx.schedule.timesteps[s].repeat(6)
                ctx.model.call(ctx.model.denoiser, states[:, s], t, {})
    finally:
        hook.remove()
    torch.testing.assert_close(found[0], seen[0])
    torch.testing.assert_close(found[3], seen[1])


def test_more_trajectories_than_there_are_give_all(ctx):
    assert step_features(ctx, 0, TAP, 1000).shape[1] == ctx.experiment.calibration.trajectories


def test_a_module_that_is_never_called_is_refused(ctx):
    with pytest.raises(CellFailedError, match="never calls a module 'nowhere'"):
        step_features(ctx, 0, "nowhere", 4)


def test_denoising_error_is_the_training_loss_on_own_samples(ctx):
    error = denoising_error(ctx, Costs(), 0)
    clean = calibration_states(ctx, 0, 64)[:, -1]
    rng = stream(0, "denoising error")
    for s in range(ctx.schedule.steps):
        noise = torch.randn(clean.shape, generator=rng)
        alpha = ctx.model.alphas_cumprod[ctx.schedule.timesteps[s]].item()
        x = clean * alpha**0.5 + noise * (1 - alpha) ** 0.5
        with torch.no_grad():
            found = ctx.model.call(ctx.model.denoiser, x, ctx.schedule.timesteps[s].repeat(len(x)), {})
        assert float(error[s]) == pytest.approx(float((found - noise).square().mean()), rel=1e-4)


def batched(cache, batch: int):
    """The toy comparison with another batch, and the numbers of rows that its model sees from now on."""
    made = context(cache, experiment("model.network=plain", f"calibration.batch={batch}"))
    rows, predict = [], made.model.call

    def watched(net, x, t, cond):
        rows.append(len(x))
        return predict(net, x, t, cond)

    made.model.call = watched
    return made, rows


def test_nothing_is_predicted_in_larger_batches_than_the_recipe_allows(tmp_path):
    found = {}
    for batch in (3, 8):
        ctx, rows = batched(tmp_path, batch)
        probes, error = probe_states(ctx, Costs()), denoising_error(ctx, Costs(), 0)
        states = calibration_states(ctx, 0, 8)
        again = torch.stack([predict_states(ctx, ctx.predictor(), probes["x"][:, s], s, "probe").eps for s in range(5)], dim=1)
        features = step_features(ctx, 0, "attention", 8)
        assert max(rows) <= batch
        assert len(rows) > 0
        torch.testing.assert_close(again, probes["eps"])
        found[batch] = [probes["x"], probes["eps"], error, states, features]
    torch.testing.assert_close(found[3], found[8], rtol=1e-4, atol=1e-5)


def test_a_cell_is_measured_in_batches_of_the_recipe_too(tmp_path):
    ctx, rows = batched(tmp_path, 3)
    run = CellRun(ctx, cell_of(ctx, "nearest"), lambda *_: None)
    made = run.calibrated()
    probe_states(ctx, Costs())
    rows.clear()
    Measurement(ctx, run.cell, run.costs, made.predictor, made.state).evidence()
    assert rows == [3, 1] * 5


def test_the_batch_is_part_of_the_keys(tmp_path):
    """It changes last bits: a fresh run must not differ from one that finds another batch's results."""
    keys = []
    for batch in (3, 8):
        ctx, _ = batched(tmp_path, batch)
        probe_states(ctx, Costs())
        denoising_error(ctx, Costs(), 0)
        _, quantizer = quantized(ctx, cell_of(ctx, "qdiffusion"))
        keys.append([quantizer.subject.calibration_key, *(entry.name for entry in quantizer.fitted.values())])
    assert all(a != b for a, b in zip(*keys, strict=True))
    for stage in ("probe", "denoising-error"):
        assert len(list((tmp_path / stage).iterdir())) == 2
