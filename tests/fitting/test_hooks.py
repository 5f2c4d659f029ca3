"""Sampler hooks in the engine: what they are fitted on, in which order they act, how they are stored, how they fail."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest
import torch
from enginekit import ALONE, cell_of, context, experiment, run_cell
from pydantic import Field
from torch import Tensor

from ptqbench import Component, Options
from ptqbench.plugin.component import Bound
from ptqbench.recipe.describe import describe_method
from ptqbench.recipe.experiment import Cell
from ptqbench.results.record import HOOK_BYTES
from ptqbench.roles.hook import PredictionPairs, SamplerHook
from ptqbench.roles.solver import StepNoise
from ptqbench.running.cell import Calibrated, CellRun
from ptqbench.running.forecast import _cell_evaluations
from ptqbench.sampling.reference import calibration_states
from ptqbench.sampling.rng import NoiseSource
from ptqbench.sampling.sample import sample
from ptqbench.stage.cache import Costs
from ptqbench.stage.context import RunContext


class ShiftOptions(Options):
    """Options of the hook below."""

    share: float = Field(1.0)
    trajectories: int = Field(64)


class Shift(SamplerHook):
    """Takes a share of the mean error away at each step."""

    options: ShiftOptions
    fits = 0

    def __init__(self, options: ShiftOptions) -> None:
        super().__init__(options)
        self.trajectories = options.trajectories

    def fit(self, pairs: PredictionPairs) -> Mapping[str, Tensor]:
        Shift.fits += 1
        self.seen = pairs
        errors = [quantized - full for full, quantized in map(pairs.at, range(pairs.steps))]
        return {"shift": self.options.share * torch.stack([error.mean() for error in errors])}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        assert not hasattr(self, "seen"), "the instance that was fitted is another one"
        self.shift = state["shift"]

    def prediction(self, step: Tensor, eps: Tensor) -> Tensor:
        assert step.shape == (len(eps),)
        return eps - self.shift[step][:, None, None, None]


class Idle(SamplerHook):
    """Learns one number and does nothing."""

    def fit(self, pairs: PredictionPairs) -> Mapping[str, Tensor]:
        return {"nothing": torch.zeros(1)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.state = state


class Silent(Idle):
    """Takes the fresh noise of the second step away."""

    def noise(self, step: int, planned: StepNoise) -> StepNoise:
        return dataclasses.replace(planned, sigma=0.0) if step == 1 else planned


class NotFinite(Idle):
    def fit(self, pairs: PredictionPairs) -> Mapping[str, Tensor]:
        return {"fine": torch.zeros(1), "broken": torch.tensor([1.0, float("nan")])}


class WrongShape(Idle):
    def prediction(self, step: Tensor, eps: Tensor) -> Tensor:
        return eps[:, :, :4]


class Negative(Idle):
    def noise(self, step: int, planned: StepNoise) -> StepNoise:
        return dataclasses.replace(planned, sigma=-0.1)


def bound(kind: type[SamplerHook], **options: object) -> Bound:
    made = ShiftOptions(**options) if kind is Shift else Options()
    return Bound(Component("sampler-hook", kind.__name__.lower(), "for tests", kind), made, "tests", "0")


def with_hooks(ctx: RunContext, *hooks: Bound, name: str = "nearest", bits: str = "W4A8") -> Cell:
    cell = cell_of(ctx, name, bits)
    return dataclasses.replace(cell, method=dataclasses.replace(cell.method, hooks=hooks))


def calibrated(ctx: RunContext, cell: Cell) -> tuple[Calibrated, Costs]:
    run = CellRun(ctx, cell, lambda *_: None)
    return run.calibrated(), run.costs


@pytest.fixture(scope="module", params=[0.0, 1.0], ids=["deterministic", "stochastic"])
def ctx(request, tmp_path_factory) -> RunContext:
    made = experiment(f"sampling.eta={request.param}", "model.network=plain", "calibration.batch=3")
    return context(tmp_path_factory.mktemp("cache"), made)


@pytest.mark.parametrize(("wanted", "used"), [(64, 8), (5, 5)])
def test_a_hook_is_fitted_on_both_networks_predictions_on_full_precision_states(ctx, wanted, used):
    """Three trajectories at a time, of the first ones, at most as many as the recipe has."""
    made, costs = calibrated(ctx, with_hooks(ctx, bound(Shift, trajectories=wanted)))
    plain, full = dataclasses.replace(made.predictor, hooks=()), ctx.predictor()
    states = calibration_states(ctx, 0, used)
    assert len(states) == used
    expected = []
    for s in range(5):
        step = torch.full((used,), s)
        with torch.no_grad():
            expected.append((plain(states[:, s], step, ALONE).eps - full(states[:, s], step, ALONE).eps).mean())
    (hook,) = made.predictor.hooks
    torch.testing.assert_close(hook.shift, torch.stack(expected), rtol=1e-4, atol=1e-7)
    assert costs.evaluations()["hook-shift"].denoiser == 2 * used * 5


def test_the_next_hook_sees_corrected_predictions(ctx):
    """The first one takes 3/4 of the mean error, so 1/4 is left to the second; together they do what one does alone."""
    cell = with_hooks(ctx, bound(Shift, share=0.75), bound(Shift, share=1.0))
    first, second = (hook.shift for hook in calibrated(ctx, cell)[0].predictor.hooks)
    (alone,) = (hook.shift for hook in calibrated(ctx, with_hooks(ctx, bound(Shift)))[0].predictor.hooks)
    torch.testing.assert_close(first, 0.75 * alone)
    torch.testing.assert_close(first + second, alone, rtol=1e-3, atol=1e-6)


def test_a_fitted_hook_is_read_back_and_its_key_is_that_of_what_follows(ctx):
    cells = [with_hooks(ctx, bound(Shift, share=share)) for share in (0.5, 0.5, 0.25)]
    Shift.fits = 0
    made = [calibrated(ctx, cell)[0] for cell in cells]
    assert Shift.fits == 2
    assert torch.equal(made[0].predictor.hooks[0].shift, made[1].predictor.hooks[0].shift)
    plain = calibrated(ctx, cell_of(ctx, "nearest"))[0]
    both = [bound(Shift, share=0.5), bound(Idle)]
    ordered = [calibrated(ctx, with_hooks(ctx, *hooks))[0].state for hooks in (both, both[::-1])]
    assert made[0].state == made[1].state
    assert len({plain.state, made[0].state, made[2].state, *ordered}) == 5


def test_stored_tables_count_four_bytes_a_value(ctx):
    plain = calibrated(ctx, cell_of(ctx, "nearest"))[0].ledger
    ledger = calibrated(ctx, with_hooks(ctx, bound(Shift), bound(Idle)))[0].ledger
    assert ledger.hook_bytes == 4 * (5 + 1)
    assert ledger.bytes == plain.bytes + 24
    assert ledger.other_bytes == plain.other_bytes
    assert (ledger.summary[HOOK_BYTES], ledger.summary["bytes"]) == (24, ledger.bytes)
    assert HOOK_BYTES not in plain.summary
    assert ledger.hash != plain.hash


def test_a_hook_that_does_nothing_changes_nothing(ctx):
    record, plain = (run_cell(ctx, cell) for cell in (with_hooks(ctx, bound(Idle)), cell_of(ctx, "nearest")))
    assert (record.status, record.reason) == ("ok", "")
    assert {name: number.value for name, number in record.metrics.items()} == {
        name: number.value for name, number in plain.metrics.items()
    }
    assert record.budget.by_stage == plain.budget.by_stage


def test_a_method_without_calibration_data_pays_for_the_trajectories_of_its_hooks(tmp_path):
    made = experiment('sweep.bits=["W4A32"]', "model.network=plain", "calibration.batch=3", methods=("nearest",))
    ctx = context(tmp_path, made)
    cell = with_hooks(ctx, bound(Shift, trajectories=4), bits="W4A32")
    budget = calibrated(ctx, cell)[0].budget
    assert (budget.training, budget.validation) == (0, 0)
    # Two shards of three trajectories.
    assert budget.by_stage == {"trajectories": 6 * 5, "hook-shift": 2 * 4 * 5}


def test_noise_of_a_step_is_the_same_whatever_a_hook_did_to_an_earlier_one(ctx):
    predictor = dataclasses.replace(ctx.predictor(), hooks=(Silent(Options()),))
    seen: list[Tensor] = []
    final = sample(predictor, [4], seed=3, block="images", device=ctx.device, on_step=lambda s, x, p: seen.extend((x, p.eps)))
    schedule, noise = ctx.schedule, NoiseSource(3, "images", [4], ctx.model.shape)
    x = noise.draw()
    for s in range(schedule.steps):
        eps = seen[2 * s + 1]
        torch.testing.assert_close(seen[2 * s], x)
        fresh = noise.draw() if schedule.noise(s).sigma > 0 else None
        without = dataclasses.replace(schedule.noise(s), sigma=0.0)
        x = schedule.update(s, x, eps, fresh, without if s == 1 else None)
    torch.testing.assert_close(final, x)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (NotFinite, "gave 'broken' with 1 of 2 values that are not finite"),
        (WrongShape, "gave float32 (4, 1, 4, 8) as the prediction"),
        (Negative, "planned StepNoise"),
    ],
)
def test_a_hook_that_misbehaves_fails_the_cell_and_says_why(ctx, kind, reason):
    record = run_cell(ctx, with_hooks(ctx, bound(kind)))
    assert record.status == "failed"
    assert f'the sampler hook "{kind.__name__.lower()}" of plugin "tests" {reason}' in record.reason


def test_the_forecast_has_both_networks_predictions(ctx):
    """Full precision and quantized (1.15 of the time) at five steps of eight trajectories, or of three."""
    plain, all_of_them, three = (
        _cell_evaluations(ctx, with_hooks(ctx, *hooks), set())
        for hooks in ((), (bound(Shift),), (bound(Shift, trajectories=3),))
    )
    assert all_of_them - plain == pytest.approx(2.15 * 8 * 5)
    assert three - plain == pytest.approx(2.15 * 3 * 5)


def test_hooks_and_losses_stand_in_the_description_of_a_method(ctx):
    described = describe_method(with_hooks(ctx, bound(Shift, share=0.5), name="qdiffusion").method)
    assert described["hooks"] == [{"use": "shift", "share": 0.5, "trajectories": 64}]
    assert [term["use"] for term in described["losses"]] == ["output"]
