"""Timesteps and the DDIM update against diffusers' scheduler."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDIMScheduler
from solverkit import ddim

from ptqbench.errors import UserError
from ptqbench_solvers.grids import quadratic_timesteps, uniform_timesteps

ALPHAS = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)


def reference(steps: int) -> DDIMScheduler:
    """diffusers' scheduler, with alphas in float64 as ours has them."""
    made = DDIMScheduler(
        beta_start=1e-4,
        beta_end=0.02,
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
        timestep_spacing="leading",
    )
    made.set_timesteps(steps)
    made.alphas_cumprod, made.final_alpha_cumprod = ALPHAS, torch.tensor(1.0, dtype=torch.float64)
    return made


@pytest.mark.parametrize("steps", [1, 2, 20, 50, 500])
def test_uniform_timesteps_are_those_of_leading_spacing(steps):
    assert uniform_timesteps(1000, steps).tolist() == reference(steps).timesteps.tolist()


def test_all_steps_reach_from_the_last_timestep_to_zero():
    assert uniform_timesteps(1000, 1000).tolist() == list(range(999, -1, -1))


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_every_update_equals_diffusers(eta, dtype, tolerance):
    theirs, ours = reference(20), ddim("uniform", 20, eta, ALPHAS)
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 4, 4, generator=g, dtype=dtype)
    for s, t in enumerate(theirs.timesteps):
        eps = torch.randn(x.shape, generator=g, dtype=dtype)
        noise = torch.randn(x.shape, generator=g, dtype=dtype)
        expected = theirs.step(eps, t, x, eta=eta, variance_noise=noise if eta else None).prev_sample
        found = ours.update(s, x, eps, noise if ours.noise(s).sigma > 0 else None)
        assert found.dtype == dtype
        torch.testing.assert_close(found, expected.to(dtype), rtol=tolerance, atol=tolerance)
        x = found


def test_the_last_step_adds_no_noise_and_a_perfect_prediction_gives_the_clean_sample():
    schedule = ddim("uniform", 10, 1.0, ALPHAS)
    assert schedule.noise(9).sigma == 0
    clean, noise = torch.randn(2, 1, 2, 2, 2, dtype=torch.float64)
    a = schedule.alpha[9]
    noisy = a.sqrt() * clean + (1 - a).sqrt() * noise
    torch.testing.assert_close(schedule.update(9, noisy, noise, None), clean)


@pytest.mark.parametrize("s", [0, 7, 18])
def test_sigma_is_the_posterior_deviation_at_eta_one(s):
    schedule = ddim("uniform", 20, 1.0, ALPHAS)
    a, b = float(schedule.alpha[s]), float(schedule.alpha_next[s])
    assert schedule.noise(s).sigma == pytest.approx(math.sqrt((1 - b) / (1 - a) * (1 - a / b)), rel=1e-12)
    assert ddim("uniform", 20, 0.0, ALPHAS).noise(s).sigma == 0


@pytest.mark.parametrize("eta", [0.0, 0.7])
@pytest.mark.parametrize("s", [0, 7, 19])
def test_gains_are_the_derivative_of_the_update(s, eta):
    schedule = ddim("uniform", 20, eta, ALPHAS)
    x, noise = torch.randn(2, 1, 1, 2, 2, dtype=torch.float64)
    eps = torch.randn(1, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(schedule.update(s, x, eps, noise).sum(), eps)
    torch.testing.assert_close(slope, schedule.gains[s].expand_as(slope))


def test_quadratic_grid_is_the_published_rule():
    grid = quadratic_timesteps(1000, 100)
    roots = [math.sqrt(800) * i / 99 for i in range(100)]
    assert grid.flip(0).tolist() == [int(r * r + 1e-9) for r in roots]
    assert (grid[0], grid[-1]) == (800, 0)
    assert (grid == 0).sum() == 4


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_repeated_timestep_leaves_the_sample_as_it_is(eta):
    schedule = ddim("quad", 100, eta, ALPHAS)
    assert schedule.steps == 100
    x, eps = torch.randn(2, 1, 1, 2, 2, dtype=torch.float64)
    assert schedule.noise(97).sigma == 0
    torch.testing.assert_close(schedule.update(97, x, eps, None), x)


@pytest.mark.parametrize(("steps", "nearest"), [(400, 500), (30, 25), (999, 1000)])
def test_steps_that_do_not_divide_are_refused_with_the_nearest_number(steps, nearest):
    with pytest.raises(UserError, match="do not divide") as caught:
        uniform_timesteps(1000, steps)
    assert str(nearest) in caught.value.hint


@pytest.mark.parametrize("steps", [0, 1001])
def test_steps_outside_the_schedule_are_refused(steps):
    with pytest.raises(UserError, match="do not fit"):
        uniform_timesteps(1000, steps)


def test_a_quadratic_grid_of_one_step_is_refused():
    with pytest.raises(UserError, match="at least 2"):
        quadratic_timesteps(1000, 1)
