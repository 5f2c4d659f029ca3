"""Solvers beside DDIM: whole trajectories and lists of timesteps against diffusers' schedulers, gains against differences."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, PNDMScheduler
from enginekit import cell_of, context, experiment, run_cell
from solverkit import ddim

from ptqbench.boundary.build import build
from ptqbench.errors import UserError
from ptqbench.failures import PluginFault
from ptqbench.plugin.component import Bound, Component, NoOptions, Options
from ptqbench.roles.model import DiffusionModel
from ptqbench.roles.solver import Solver, StepNoise
from ptqbench.running.cell import cell_quantizer
from ptqbench.sampling.sample import sample
from ptqbench.stage.cache import Costs
from ptqbench.stage.predictor import Predictor
from ptqbench_solvers import DpmSolverOptions, PlmsOptions
from ptqbench_solvers.multistep import DpmSolver, Plms, betas_of

CPU = torch.device("cpu")
ALPHAS = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)
SCALED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def dpm(grid="linspace", steps=20, **options):
    return DpmSolver(DpmSolverOptions(**options)).schedule(ALPHAS, grid, steps, 0.0)


def plms(grid="leading", steps=20, **options):
    return Plms(PlmsOptions(**options)).schedule(ALPHAS, grid, steps, 0.0)


def predicted(x, t):
    """A stand-in for a denoiser."""
    return torch.sin(3 * x + t / 300)


def walked(schedule, x):
    update = schedule.start()
    for s, t in enumerate(schedule.timesteps.tolist()):
        x = update(s, x, predicted(x, t), None, schedule.noise(s))
    return x


def walked_by(scheduler, steps, x):
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        x = scheduler.step(predicted(x, t), t, x).prev_sample
    return x


CASES = {
    "dpm": (lambda: dpm(), lambda: DPMSolverMultistepScheduler(**SCALED)),
    "dpm few": (lambda: dpm(steps=6), lambda: DPMSolverMultistepScheduler(**SCALED)),
    "dpm third": (lambda: dpm(order=3), lambda: DPMSolverMultistepScheduler(**SCALED, solver_order=3)),
    "dpm karras": (lambda: dpm(karras_sigmas=True), lambda: DPMSolverMultistepScheduler(**SCALED, use_karras_sigmas=True)),
    "dpm trailing": (
        lambda: dpm("trailing", final_sigma="sigma_min"),
        lambda: DPMSolverMultistepScheduler(**SCALED, timestep_spacing="trailing", final_sigmas_type="sigma_min"),
    ),
    "plms": (lambda: plms(), lambda: PNDMScheduler(**SCALED, skip_prk_steps=True, steps_offset=1)),
    "plms to one": (
        lambda: plms("trailing", set_alpha_to_one=True),
        lambda: PNDMScheduler(**SCALED, skip_prk_steps=True, set_alpha_to_one=True, timestep_spacing="trailing"),
    ),
}


@pytest.mark.parametrize(("ours", "theirs"), CASES.values(), ids=CASES)
def test_a_trajectory_is_that_of_the_scheduler(ours, theirs):
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    schedule, scheduler = ours(), theirs()
    expected = walked_by(scheduler, 6 if schedule.steps == 6 else 20, x)
    assert schedule.timesteps.tolist() == scheduler.timesteps.tolist()
    torch.testing.assert_close(walked(schedule, x), expected, rtol=1e-5, atol=1e-5)
    # Another batch starts anew.
    torch.testing.assert_close(walked(schedule, x), expected, rtol=1e-5, atol=1e-5)
    if scheduler.config.get("use_karras_sigmas"):
        levels = scheduler.sigmas[:-1].double()
        torch.testing.assert_close((1 - schedule.alpha) / schedule.alpha, levels.square(), rtol=1e-5, atol=0)
    else:
        torch.testing.assert_close(schedule.alpha, ALPHAS[schedule.timesteps])


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("karras", [False, True])
def test_a_trajectory_is_that_of_the_scheduler_whatever_is_predicted(kind, karras):
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    schedule = dpm(karras_sigmas=karras)
    call = lambda _, x, t, cond: predicted(x, t.view(-1, 1, 1, 1))  # noqa: E731
    model = DiffusionModel(torch.nn.Identity(), call, ALPHAS, (3, 4, 4), lambda x0: x0, prediction=kind)
    predictor, update, found = Predictor(model, model.denoiser, schedule), schedule.start(), x
    for s in range(schedule.steps):
        step = torch.full((2,), s)
        eps = predictor.evaluate(found, step, {})
        # As a calibration sample says its timestep.
        assert torch.equal(eps, predictor.evaluate(found, step, {}, schedule.timesteps[step]))
        found = update(s, found, eps, None, schedule.noise(s))
    scheduler = DPMSolverMultistepScheduler(**SCALED, use_karras_sigmas=karras, prediction_type=kind)
    torch.testing.assert_close(found, walked_by(scheduler, 20, x), rtol=1e-4, atol=1e-4)


def test_a_state_with_another_steps_label_is_read_at_that_steps_level():
    t, own = torch.tensor([801, 3]), torch.tensor([0, 0])
    schedule = dpm(karras_sigmas=True)
    model = DiffusionModel(torch.nn.Identity(), lambda _, x, t, cond: x, ALPHAS, (3, 4, 4), lambda x0: x0)
    predictor = Predictor(model, model.denoiser, schedule)
    assert predictor.alpha_at(own, t).tolist() == ALPHAS[t].tolist()
    mixed = torch.stack([schedule.timesteps[0], t[1]])
    assert predictor.alpha_at(own, mixed).tolist() == [schedule.alpha[0].item(), ALPHAS[3].item()]


def test_a_velocity_may_be_asked_for_at_a_label_of_no_step():
    """A flow's timesteps are no whole numbers, and the first of them lies beyond the table."""
    x, schedule = torch.randn(2, 3, 4, 4), dpm()
    model = DiffusionModel(torch.nn.Identity(), lambda _, x, t, cond: x, ALPHAS, (3, 4, 4), lambda x0: x0, prediction="flow")
    found = Predictor(model, model.denoiser, schedule).evaluate(x, torch.tensor([0, 1]), {}, torch.tensor([1000.0, 437.5]))
    assert torch.equal(found, x)


@pytest.mark.parametrize(
    "schedule", [dpm(steps=8), plms(steps=8), ddim("uniform", 8, 0.0, ALPHAS)], ids=["dpm", "plms", "ddim"]
)
def test_gains_are_what_a_difference_in_the_prediction_does_to_the_next_latent(schedule):
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(2, schedule.steps, 1, 1, 1, 1, generator=generator)
    for wanted in range(schedule.steps):
        ends = []
        for shift in (0.0, 1.0):
            update = schedule.start()
            for s in range(wanted + 1):
                x, eps = states[:, s]
                after = update(s, x, eps + shift * (s == wanted), None, schedule.noise(s))
            ends.append(float(after))
        assert float(schedule.gains[wanted]) == pytest.approx(ends[1] - ends[0], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("steps", [10, 30])
def test_leading_timesteps_are_those_of_diffusers(steps, offset):
    theirs = DDIMScheduler(timestep_spacing="leading", steps_offset=offset)
    theirs.set_timesteps(steps)
    assert ddim("leading", steps, 0.0, ALPHAS, steps_offset=offset).timesteps.tolist() == theirs.timesteps.tolist()


@pytest.mark.parametrize("grid", ["trailing", "linspace"])
@pytest.mark.parametrize("steps", [1, 7, 20, 30])
def test_other_spacings_are_those_of_diffusers(grid, steps):
    theirs = DDIMScheduler(timestep_spacing=grid)
    theirs.set_timesteps(steps)
    expected = theirs.timesteps.tolist() if (grid, steps) != ("linspace", 1) else [0]
    assert ddim(grid, steps, 0.0, ALPHAS).timesteps.tolist() == expected


@pytest.mark.parametrize("to_one", [True, False])
@pytest.mark.parametrize("grid", ["leading", "trailing"])
def test_ddim_on_these_grids_is_diffusers_ddim(grid, to_one):
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    theirs = DDIMScheduler(**SCALED, clip_sample=False, timestep_spacing=grid, steps_offset=0, set_alpha_to_one=to_one)
    ours = ddim(grid, 20, 0.0, ALPHAS, steps_offset=0, set_alpha_to_one=to_one)
    torch.testing.assert_close(walked(ours, x), walked_by(theirs, 20, x), rtol=1e-5, atol=1e-5)


def test_betas_are_those_that_the_alphas_were_made_of():
    betas = torch.linspace(1e-4, 0.02, 50, dtype=torch.float64)
    torch.testing.assert_close(torch.tensor(betas_of(torch.cumprod(1 - betas, 0)), dtype=torch.float64), betas)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sampling.solver='plms'", "sampling.grid='quad'"], "the solver 'plms' has no grid 'quad'"),
        (["sampling.solver='dpm-solver++'", "sampling.eta=0.5"], "the solver 'dpm-solver++' is deterministic"),
        (["sampling.grid='leading'", "sampling.steps=1000"], "lies beyond a schedule"),
    ],
)
def test_what_a_solver_does_not_know_is_refused(tmp_path, overrides, message):
    ctx = context(tmp_path, experiment(*overrides))
    with pytest.raises(UserError, match=re.escape(message)):
        _ = ctx.schedule


@pytest.mark.parametrize("name", ["plms", "dpm-solver++"])
def test_a_cell_is_sampled_and_measured_with_another_solver(tmp_path, name):
    ctx = context(tmp_path, experiment(f"sampling.solver='{name}'", 'evaluation.metrics=["latent-error", "psnr"]'))
    record = run_cell(ctx, cell_of(ctx, "nearest"))
    assert record.status == "ok", record.reason
    assert len(record.metrics["latent-error"].detail["t"]) == ctx.schedule.steps
    whole = sample(ctx.predictor(), range(4), seed=1, block="images", device=CPU)
    alone = [sample(ctx.predictor(), [i], seed=1, block="images", device=CPU) for i in range(4)]
    torch.testing.assert_close(torch.cat(alone), whole, rtol=1e-3, atol=1e-3)
    plain = context(tmp_path, experiment())
    assert plain.base_key != ctx.base_key


def test_another_solver_is_another_protocol(tmp_path):
    protocols = set()
    for solver in ("'ddim'", "{use='ddim', set_alpha_to_one=true}", "{use='ddim', set_alpha_to_one=false}", "'dpm-solver++'"):
        ctx = context(tmp_path, experiment(f"sampling.solver={solver}", 'evaluation.metrics=["psnr"]'))
        protocols.add(run_cell(ctx, cell_of(ctx, "nearest")).metrics["psnr@fp"].protocol)
    assert len(protocols) == 3


class Nothing(Solver):
    grids = ("own",)

    def schedule(self, alphas_cumprod, grid, steps, eta):
        return self.answer


class Falls(Nothing):
    def schedule(self, alphas_cumprod, grid, steps, eta):
        class Steps(type(dpm())):
            def start(self):
                return lambda *_: 1 / 0

        made = dpm()
        return Steps(made.timesteps, made.alpha, made.scheduler)


def bound(kind: type[Solver]) -> Bound:
    return Bound(Component("solver", "mine", "", kind, NoOptions), Options(), "mine", "")


def test_a_solver_that_misbehaves_is_named():
    broken = build(bound(Nothing))
    for answer, message in (
        (7, "returned 7"),
        (dataclasses.replace(dpm(), alpha=ALPHAS), r"gave float64 \(1000,\) as alpha"),
    ):
        broken.answer = answer
        with pytest.raises(PluginFault, match=message):
            broken.schedule(ALPHAS, "own", 20, 0.0)
    x = torch.zeros(1, 1, 8, 8)
    with pytest.raises(PluginFault, match=r'update\(\) of the solver "mine": ZeroDivisionError'):
        build(bound(Falls)).schedule(ALPHAS, "own", 20, 0.0).start()(0, x, x, None, StepNoise(0.5, 0.6, 0.0, 0.4))


def test_each_step_of_a_solver_that_predicts_more_often_has_a_grid_of_its_own(tmp_path):
    made = experiment("sampling.solver=plms", "methods.nearest.activations.steps=each", methods=("nearest",))
    ctx = context(tmp_path, made)
    plan = cell_quantizer(ctx, cell_of(ctx, "nearest"), Costs(), lambda *_: None).plan
    assert ctx.schedule.steps == made.sampling.steps + 1
    assert {layer.activation.steps for layer in plan.layers} == {ctx.schedule.steps}
