"""What the full-precision model tells samplers and weighters: features along trajectories, and its own error by step."""

from __future__ import annotations

import pytest
import torch

from ptqbench.engine.cache import Costs
from ptqbench.engine.reference import calibration_states, denoising_error, step_features
from ptqbench.engine.rng import stream
from ptqbench.errors import CellFailedError

TAP = "down_blocks.1.attentions.0"


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
                ctx.model.predict(ctx.model.denoiser, states[:, s], t, {})
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
            found = ctx.model.predict(ctx.model.denoiser, x, ctx.schedule.timesteps[s].repeat(len(x)), {})
        assert float(error[s]) == pytest.approx(float((found - noise).square().mean()), rel=1e-4)
