"""The solver flow-euler: levels, steps and gains against diffusers' scheduler, and what it does not take."""

import math
import re

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from enginekit import context, experiment

from ptqbench.errors import UserError
from ptqbench.roles.flow import alphas_of, shifted, sigmas_of
from ptqbench_solvers import FlowEulerOptions
from ptqbench_solvers.flow import FlowEuler

MU = 0.83


def levels(shift, total=1000):
    return alphas_of(shifted(torch.arange(1, total + 1, dtype=torch.float64) / total, shift))


def steps_of(trained, grid, steps, **options):
    return FlowEuler(FlowEulerOptions(**options)).schedule(levels(trained), grid, steps, 0.0)


def stable_diffusion_3(steps):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(steps)
    return scheduler


def flux(steps):
    """The shift by resolution."""
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=MU)
    return scheduler


CASES = {"sd3": (3.0, "linspace", stable_diffusion_3), "flux": (math.exp(MU), "trailing", flux)}


@pytest.mark.parametrize("steps", [1, 7, 28])
@pytest.mark.parametrize(("shift", "grid", "theirs"), CASES.values(), ids=CASES)
def test_a_trajectory_is_that_of_the_scheduler(shift, grid, theirs, steps):
    schedule, scheduler = steps_of(shift, grid, steps), theirs(steps)
    torch.testing.assert_close(schedule.timesteps, scheduler.timesteps, rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(sigmas_of(schedule.alpha), scheduler.sigmas[:-1].double(), rtol=1e-6, atol=1e-7)
    first = x = expected = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    update = schedule.start()
    for s, t in enumerate(scheduler.timesteps):
        x = update(s, x, torch.sin(3 * x + t / 300), None, schedule.noise(s))
        expected = scheduler.step(torch.sin(3 * expected + t / 300), t, expected).prev_sample
    torch.testing.assert_close(x, expected, rtol=1e-5, atol=1e-5)
    # Another batch starts anew.
    one, other = (schedule.start()(0, first, first, None, schedule.noise(0)) for _ in range(2))
    assert torch.equal(one, other)


@pytest.mark.parametrize("grid", ["linspace", "trailing"])
def test_gains_are_what_a_difference_in_the_velocity_does_to_the_next_latent(grid):
    schedule = steps_of(3.0, grid, 6)
    x, velocity = torch.randn(2, 1, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    for wanted in range(schedule.steps):
        ends = []
        for shift in (0.0, 1.0):
            update = schedule.start()
            for s in range(wanted + 1):
                after = update(s, x, velocity + shift * (s == wanted), None, schedule.noise(s))
            ends.append(after)
        difference = (ends[1] - ends[0]).double()
        torch.testing.assert_close(difference, schedule.gains[wanted].expand_as(difference), rtol=1e-4, atol=1e-5)
    assert float(schedule.gains.sum()) == pytest.approx(-1.0)


def test_the_shift_is_the_model_s_unless_it_is_stated():
    assert torch.equal(steps_of(3.0, "trailing", 9).timesteps, steps_of(1.0, "trailing", 9, shift=3.0).timesteps)
    assert not torch.equal(steps_of(3.0, "trailing", 9).timesteps, steps_of(1.0, "trailing", 9).timesteps)
    diffusion = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    with pytest.raises(UserError, match="not those of a shifted flow"):
        FlowEuler(FlowEulerOptions()).schedule(diffusion, "linspace", 9, 0.0)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "the solver 'flow-euler' is for flows, and the model is none: it predicts 'epsilon'"),
        (["sampling.eta=0.5"], "the solver 'flow-euler' is deterministic"),
        (["sampling.grid='quad'"], "the solver 'flow-euler' has no grid 'quad'"),
    ],
)
def test_what_it_does_not_know_is_refused(tmp_path, overrides, message):
    ctx = context(tmp_path, experiment("sampling.solver='flow-euler'", *overrides))
    with pytest.raises(UserError, match=re.escape(message)):
        _ = ctx.schedule
