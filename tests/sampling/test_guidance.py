"""Classifier-free guidance: evaluations by branch, samples by branch, one combined prediction."""

import pytest
import torch
from enginekit import cell_of, context, experiment, quantized, run_cell, values

from ptqbench.errors import UserError
from ptqbench.fitting.hooks import HookFitter
from ptqbench.recipe.problems import RecipeError
from ptqbench.running.cell import CellRun, cell_quantizer
from ptqbench.running.forecast import FAKE_QUANTIZATION, forecast
from ptqbench.sampling.images import image_key
from ptqbench.sampling.reference import calibration_set, calibration_states, denoising_error, probe_states, step_features
from ptqbench.sampling.rng import NoiseSource, stream
from ptqbench.sampling.sample import sample
from ptqbench.stage.cache import Costs

CPU = torch.device("cpu")
SCALE, CLASSES = 2.5, 3
TOLD = ("model.network=unet", f"model.classes={CLASSES}")
METRICS = 'evaluation.metrics=["eps-error", "branch-error", "psnr"]'


def guided(*overrides, scale=SCALE, methods=()):
    return experiment(*TOLD, f"sampling.guidance={scale}", *overrides, methods=methods)


@pytest.fixture(scope="module")
def ctx(tmp_path_factory):
    return context(tmp_path_factory.mktemp("cache"), guided(METRICS))


def evaluated(net, x, t, labels):
    return net(x, torch.full((len(x),), int(t)), class_labels=torch.tensor(labels)).sample


def combined(net, x, t, labels):
    without = evaluated(net, x, t, [CLASSES] * len(x))
    return without + SCALE * (evaluated(net, x, t, labels) - without)


@torch.no_grad()
def test_an_image_is_that_of_the_guided_update(ctx):
    ids, schedule, net = [0, 1, 5], ctx.schedule, ctx.model.denoiser
    x = NoiseSource(3, "images", ids, ctx.model.shape).draw()
    for s in range(schedule.steps):
        x = schedule.update(s, x, combined(net, x, schedule.timesteps[s], [0, 1, 2]), None)
    torch.testing.assert_close(sample(ctx.predictor(), ids, seed=3, block="images", device=CPU), x)


def test_a_scale_of_one_is_the_unguided_model_bit_for_bit(tmp_path):
    records = []
    for name, made in (("one", guided(scale=1.0)), ("none", experiment(*TOLD))):
        ctx = context(tmp_path / name, made)
        records.append(run_cell(ctx, cell_of(ctx, "qdiffusion")))
        assert ctx.model.branches == ("cond",)
    one, none = records
    assert values(one) == values(none)
    assert one.state_hash == none.state_hash
    assert one.metrics["eps-error"].protocol == none.metrics["eps-error"].protocol


def test_what_a_scale_of_one_leaves_is_shared_with_the_unguided_model(tmp_path):
    one, none, two = (context(tmp_path, made) for made in (guided(scale=1.0), experiment(*TOLD), guided(scale=2.0)))
    keys = [image_key(made, "state", range(4)) for made in (one, none, two)]
    assert keys[0] == keys[1] != keys[2]


def test_a_sample_is_a_state_in_one_branch(ctx):
    found = calibration_set(ctx, Costs(), cell_of(ctx, "qdiffusion").method, 0)
    assert len(found) == 40
    assert found.branch.tolist() == [0, 1] * 20
    assert torch.equal(found.x[::2], found.x[1::2])
    labels = found.conditions(torch.arange(40))["class_labels"]
    assert torch.equal(labels[::2], found.trajectory[::2] % CLASSES)
    assert labels[1::2].tolist() == [CLASSES] * 20


def test_a_sample_is_predicted_under_the_conditions_of_its_branch(ctx):
    cell = cell_quantizer(ctx, cell_of(ctx, "nearest"), Costs(), lambda *_: None)
    calib, index = cell.samples.calibration, torch.tensor([4, 5, 11])
    found = cell.samples.predict(None, index)
    labels = calib.conditions(index)["class_labels"]
    assert labels.tolist()[1:] == [CLASSES] * 2
    with torch.no_grad():
        expected = ctx.model.denoiser(calib.x[index], calib.t[index], class_labels=labels).sample
    torch.testing.assert_close(found, expected)


def test_samples_of_a_state_are_held_out_together(ctx):
    cell = cell_quantizer(ctx, cell_of(ctx, "gacq"), Costs(), lambda *_: None)
    held = cell.samples.split.validation.tolist()
    assert len(held) == 8
    assert {i ^ 1 for i in held} == set(held)


def test_one_branch_alone_may_be_calibrated(tmp_path):
    ctx = context(tmp_path, guided('calibration.branches=["uncond"]'))
    found = calibration_set(ctx, Costs(), cell_of(ctx, "qdiffusion").method, 0)
    assert len(found) == 40
    assert set(found.conditions(torch.arange(40))["class_labels"].tolist()) == {CLASSES}


@torch.no_grad()
def test_what_is_asked_of_full_precision_alone_is_of_the_first_calibrated_branch(tmp_path):
    ctx = context(tmp_path, guided('calibration.branches=["uncond"]'))
    net, seen = ctx.model.denoiser, []
    features = step_features(ctx, 0, "mid_block.resnets.0", 2)
    error = denoising_error(ctx, Costs(), 0)
    states = calibration_states(ctx, 0, 8)
    handle = net.get_submodule("mid_block.resnets.0").register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    evaluated(net, states[:2, 0], ctx.schedule.timesteps[0], [CLASSES] * 2)
    handle.remove()
    torch.testing.assert_close(features[0], seen[0])
    clean, noise = states[:, -1], torch.randn(8, *ctx.model.shape, generator=stream(0, "denoising error"))
    alpha = float(ctx.schedule.alpha[0])
    x = alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise
    expected = (evaluated(net, x, ctx.schedule.timesteps[0], [CLASSES] * 8) - noise).square().mean()
    assert float(error[0]) == pytest.approx(float(expected), rel=1e-4)


def test_errors_are_of_the_combined_prediction_and_of_each_branch(ctx):
    record = run_cell(ctx, cell_of(ctx, "nearest"))
    made = CellRun(ctx, cell_of(ctx, "nearest"), lambda *_: None).calibrated().predictor
    probes = probe_states(ctx, Costs())
    labels, errors = torch.arange(4) % CLASSES, {"eps-error": [], "eps-error.cond": [], "eps-error.uncond": []}
    for s in range(ctx.schedule.steps):
        x, t, step = probes["x"][:, s], ctx.schedule.timesteps[s], torch.full((4,), s)
        with torch.no_grad():
            full = combined(ctx.model.denoiser, x, t, labels.tolist())
            torch.testing.assert_close(probes["eps"][:, s], full)
            found = made(x, step, ctx.model.conditions_of(range(4), CPU, "calibration"))
            errors["eps-error"].append((found.eps - full).square().mean())
            for branch, label in (("cond", labels), ("uncond", torch.full_like(labels, CLASSES))):
                difference = found.branches[branch] - evaluated(ctx.model.denoiser, x, t, label.tolist())
                errors[f"eps-error.{branch}"].append(difference.square().mean())
    for name, steps in errors.items():
        assert record.metrics[name].value == pytest.approx(float(torch.stack(steps).mean()), rel=1e-3)


def test_an_unguided_model_has_no_errors_by_branch(tmp_path):
    ctx = context(tmp_path, experiment(METRICS, methods=("nearest",)))
    assert set(run_cell(ctx, cell_of(ctx, "nearest")).metrics) == {"eps-error", "psnr@fp"}


def test_a_budget_counts_denoiser_calls(tmp_path):
    ctx = context(tmp_path, guided(METRICS))
    rows, call = [], ctx.model.call
    assert ctx.probe.layers

    def counted(net, x, t, cond):
        rows.append(len(x))
        return call(net, x, t, cond)

    ctx.model.call = counted
    record = run_cell(ctx, cell_of(ctx, "qdiffusion"))
    assert record.budget.training == 40
    assert record.budget.by_stage["trajectories"] == 8 * 5 * 2
    # Images of both models, held-out trajectories in both, and two of them in which sites are looked at, are no calibration.
    assert sum(rows) == record.budget.denoiser_evaluations + (8 + 8 + 4 + 4 + 2) * 5 * 2


def test_a_hook_is_fitted_on_combined_predictions(ctx):
    q, _ = quantized(ctx, cell_of(ctx, "nearest"))
    predictor = ctx.predictor(q.module, q.context)
    full, low = HookFitter(ctx, Costs(), lambda *_: None, 0)._pairs(predictor, "mine", 4).at(2)
    with torch.no_grad():
        x = calibration_states(ctx, 0, 4)[:, 2]
        torch.testing.assert_close(full, combined(ctx.model.denoiser, x, ctx.schedule.timesteps[2], [0, 1, 2, 0]))
        expected = predictor(x, torch.full((4,), 2), ctx.model.conditions_of(range(4), CPU, "calibration")).eps
        torch.testing.assert_close(low, expected)


def test_a_forecast_has_two_calls_for_each_prediction(tmp_path, monkeypatch):
    monkeypatch.setattr("ptqbench.running.forecast.seconds_per_evaluation", lambda _: 1.0)
    one, two = (forecast(context(tmp_path, guided(scale=scale, methods=("nearest",)))) for scale in (1.0, SCALE))
    assert two.shared == pytest.approx(2 * one.shared, rel=0.02)
    (cell,) = (name for name in one.cells if name.startswith("nearest"))
    # Ranges of activations are found on calibration samples, each of which is one call in either case.
    ranges = FAKE_QUANTIZATION * guided(scale=SCALE).calibration.samples
    assert two.cells[cell] - ranges == pytest.approx(2 * (one.cells[cell] - ranges), rel=0.02)


def refused(tmp_path, *overrides):
    with pytest.raises(UserError) as caught:
        _ = context(tmp_path, experiment(*overrides)).model
    return str(caught.value)


def test_a_model_without_an_unconditional_branch_cannot_be_guided(tmp_path):
    assert "sampling.guidance is 2.5, but this model has no unconditional branch" in refused(tmp_path, "sampling.guidance=2.5")


def test_branches_that_a_prediction_lacks_cannot_be_calibrated(tmp_path):
    assert "names uncond, and this model's predictions are made of cond" in refused(
        tmp_path, *TOLD, 'calibration.branches=["uncond"]'
    )


def test_branches_share_the_samples_evenly(tmp_path):
    message = refused(tmp_path, *TOLD, "sampling.guidance=2.5", "calibration.samples=31")
    assert "31 calibration samples cannot be shared evenly by 2 branches" in message


@pytest.mark.parametrize(
    "override", ["sampling.guidance=-1.0", 'calibration.branches=["cond", "cond"]', 'calibration.branches=["left"]']
)
def test_a_recipe_with_other_branches_or_scales_is_refused(override):
    with pytest.raises(RecipeError):
        experiment(override)
