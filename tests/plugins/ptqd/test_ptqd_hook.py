"""The hook alone: injected errors are found and taken back, and the sampler's variance adds up."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from solverkit import ddim
from torch import Tensor

from ptqbench.roles.hook import PredictionPairs
from ptqbench.roles.solver import StepNoise
from ptqbench_ptqd import PtqdOptions
from ptqbench_ptqd.hook import Ptqd

ALPHAS = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
OFF = {"slope": False, "bias": False, "variance": False}
SHAPE = (256, 3, 8, 8)
VALUES = math.prod(SHAPE)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pairs(*steps: tuple[Tensor, Tensor]) -> PredictionPairs:
    """Predictions (full precision, quantized) of each step, as the engine gives them."""
    return PredictionPairs(len(steps), len(steps[0][0]), lambda s: (steps[s][0].float(), steps[s][1].float()))


def fitted(data: PredictionPairs, **options: object) -> tuple[Ptqd, dict[str, Tensor]]:
    """A restored hook, and its tables."""
    state = Ptqd(PtqdOptions(**options)).fit(data)
    hook = Ptqd(PtqdOptions(**options))
    hook.restore(state)
    return hook, state


def injected(k: float, b: list[float], r: float, mean: float = 0.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A full-precision prediction and one with the error k e + b_c + N(0, r^2)."""
    eps = normal(*SHAPE, seed=seed) + mean
    return eps, eps + k * eps + torch.tensor(b, dtype=torch.float64)[:, None, None] + r * normal(*SHAPE, seed=seed + 100)


STEPS = [(0.1, [0.03, -0.02, 0.05], 0.2), (0.02, [0.0, 0.0, -0.1], 0.05), (0.3, [-0.1, 0.2, 0.0], 0.5)]


def test_an_injected_error_is_found_within_sampling_error():
    _, state = fitted(pairs(*(injected(*step, seed=i) for i, step in enumerate(STEPS))))
    assert {name: (tuple(t.shape), t.dtype) for name, t in state.items()} == {
        "slope": ((3,), torch.float32),
        "bias": ((3, 3), torch.float32),
        "deviation": ((3,), torch.float32),
    }
    for s, (k, b, r) in enumerate(STEPS):
        # Five standard errors; a bias per channel is part of the noise that the common slope sees.
        total = math.hypot(r, float(np.std(b)))
        assert float(state["slope"][s]) == pytest.approx(k, abs=5 * total / math.sqrt(VALUES))
        assert state["bias"][s].tolist() == pytest.approx(b, abs=5 * r / math.sqrt(VALUES / 3))
        assert float(state["deviation"][s]) == pytest.approx(r, rel=5 / math.sqrt(2 * VALUES) + 1e-3)


def test_the_correction_leaves_only_unbiased_noise_on_data_that_was_not_fitted():
    hook, _ = fitted(pairs(*(injected(*step, mean=0.4, seed=i) for i, step in enumerate(STEPS))))
    for s, (k, b, r) in enumerate(STEPS):
        eps, quantized = injected(k, b, r, mean=0.4, seed=50 + s)
        rest = hook.prediction(torch.full((len(eps),), s), quantized) - eps
        sigma = r / (1 + k)
        assert float(rest.std()) == pytest.approx(sigma, rel=0.02)
        assert rest.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=8 * sigma / math.sqrt(VALUES / 3))
        slope = float(((eps - eps.mean()) * rest).mean() / eps.var())
        assert slope == pytest.approx(0, abs=8 * sigma / math.sqrt(VALUES))


def test_the_slope_is_that_of_least_squares_with_intercept():
    eps, quantized = injected(0.2, [0.3, -0.1, 0.0], 0.4, mean=1.5)
    design = np.stack([eps.float().flatten().numpy(), np.ones(VALUES)], axis=1).astype(np.float64)
    error = (quantized.float().double() - eps.float().double()).flatten().numpy()
    expected = np.linalg.lstsq(design, error, rcond=None)[0][0]
    _, state = fitted(pairs((eps, quantized)))
    assert float(state["slope"][0]) == pytest.approx(expected, rel=1e-6)


def test_rows_take_the_tables_of_their_own_steps():
    hook, state = fitted(pairs(*(injected(*step, seed=i) for i, step in enumerate(STEPS))))
    eps, step = normal(4, 3, 2, 5, seed=9).float(), torch.tensor([2, 0, 1, 2])
    found = hook.prediction(step, eps)
    for row, s in enumerate(step.tolist()):
        for c in range(3):
            expected = (eps[row, c] - state["bias"][s, c]) / (1 + state["slope"][s])
            assert torch.equal(found[row, c], expected)


def test_negative_slopes_count_as_zero():
    eps, quantized = injected(-0.2, [0.1, 0.0, 0.0], 0.1)
    hook, state = fitted(pairs((eps, quantized)))
    assert float(state["slope"][0]) == 0
    found = hook.prediction(torch.zeros(len(eps), dtype=torch.int64), quantized)
    torch.testing.assert_close(found, quantized - state["bias"][0].double()[:, None, None])
    # What the slope would have explained is left in the noise.
    assert float(state["deviation"][0]) == pytest.approx(math.hypot(0.1, 0.2), rel=0.02)


def test_a_constant_prediction_has_no_slope():
    eps = torch.full(SHAPE, 0.25)
    _, state = fitted(pairs((eps, eps + 0.5)))
    assert float(state["slope"][0]) == 0
    assert state["bias"][0].tolist() == [0.5] * 3


def test_released_formulas():
    eps, quantized = injected(0.25, [0.3, -0.3, 0.0], 0.2, mean=0.8)
    _, ours = fitted(pairs((eps, quantized)))
    _, released = fitted(pairs((eps, quantized)), compat=True)
    assert torch.equal(ours["slope"], released["slope"])
    d, k = (quantized.float().double() - eps.float().double()), float(ours["slope"][0])
    # The released bias has the slope's part of the mean in it.
    assert released["bias"][0].tolist() == pytest.approx(d.mean(dim=(0, 2, 3)).tolist(), abs=1e-6)
    difference = (released["bias"] - ours["bias"])[0].double()
    assert difference.tolist() == pytest.approx((k * eps.mean(dim=(0, 2, 3))).tolist(), abs=1e-6)
    spreads = [np.std((d[i] - k * eps[i].float().double()).numpy(), ddof=1) for i in range(len(d))]
    assert float(released["deviation"][0]) == pytest.approx(float(np.mean(spreads)), rel=1e-6)
    assert float(ours["deviation"][0]) == pytest.approx(0.2, rel=0.02)
    assert float(released["deviation"][0]) == pytest.approx(math.hypot(0.2, np.std([0.3, -0.3, 0.0])), rel=0.02)


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("part", ["slope", "bias", "variance"])
def test_each_part_can_be_switched_off_alone(part, compat):
    table = {"slope": "slope", "bias": "bias", "variance": "deviation"}
    _, state = fitted(pairs(injected(0.2, [0.1, 0.0, -0.1], 0.3)), compat=compat, **{part: False})
    assert not bool(state[table[part]].any())
    assert all(bool(state[name].any()) for other, name in table.items() if other != part)


def test_without_any_part_predictions_and_noise_stay_bit_for_bit():
    hook, _ = fitted(pairs(injected(0.2, [0.1, 0.0, -0.1], 0.3)), **OFF)
    quantized = torch.cat([normal(64, 3, 4, 4, seed=5).float(), torch.zeros(2, 3, 4, 4), -torch.zeros(2, 3, 4, 4)])
    found = hook.prediction(torch.zeros(len(quantized), dtype=torch.int64), quantized)
    assert torch.equal(found.view(torch.int32), quantized.view(torch.int32))
    planned = ddim("uniform", 20, 1.0, ALPHAS).noise(3)
    assert hook.noise(0, planned) == planned


def restored(sigma_q: list[float], compat: bool = False) -> Ptqd:
    """A hook that expects noise of these deviations in the prediction and corrects nothing else."""
    hook = Ptqd(PtqdOptions(compat=compat))
    steps = len(sigma_q)
    hook.restore({"slope": torch.zeros(steps), "bias": torch.zeros(steps, 1), "deviation": torch.tensor(sigma_q)})
    return hook


@pytest.mark.parametrize("s", [0, 4, 10, 15])
def test_the_variance_of_a_step_is_what_the_schedule_planned(s):
    """Brute force: the step itself on noisy predictions, in place of the formula for its factor."""
    schedule, sigma_q = ddim("uniform", 20, 1.0, ALPHAS), 0.3
    planned = schedule.noise(s)
    hook = restored([sigma_q] * 20)
    calibrated = hook.noise(s, planned)
    assert 0 < calibrated.sigma < planned.sigma
    assert calibrated.direction == planned.sigma
    count = 400_000
    x, eps = torch.full((count,), 0.7, dtype=torch.float64), torch.full((count,), -0.2, dtype=torch.float64)
    fresh, error = normal(count, seed=s), normal(count, seed=s + 1)
    exact = schedule.update(s, x, eps, fresh)
    noisy = schedule.update(s, x, eps + sigma_q * error, fresh, calibrated)
    assert float(exact.var()) == pytest.approx(planned.sigma**2, rel=0.01)
    assert float(noisy.var()) == pytest.approx(planned.sigma**2, rel=0.01)
    assert float(noisy.mean()) == pytest.approx(float(exact.mean()), abs=5 * planned.sigma / math.sqrt(count))


def test_the_formula_equals_a_difference_quotient_of_the_step():
    schedule = ddim("uniform", 20, 0.7, ALPHAS)
    deviations = [0.05 * (s + 1) for s in range(20)]
    hook = restored(deviations)
    x, zero, one = (torch.full((1,), value, dtype=torch.float64) for value in (0.4, 0.0, 1.0))
    floored = 0
    for s, sigma_q in enumerate(deviations):
        planned = schedule.noise(s)
        factor = float(schedule.update(s, x, one, None) - schedule.update(s, x, zero, None))
        expected = max(0.0, planned.sigma**2 - (factor * float(torch.tensor(sigma_q))) ** 2)
        assert hook.noise(s, planned).sigma ** 2 == pytest.approx(expected, abs=1e-12)
        floored += expected == 0 and planned.sigma > 0
    assert floored


def test_noise_is_divided_by_the_slope_as_the_prediction_is():
    hook, reference = Ptqd(PtqdOptions()), restored([0.2])
    hook.restore({"slope": torch.tensor([0.25]), "bias": torch.zeros(1, 1), "deviation": torch.tensor([0.25])})
    planned = ddim("uniform", 20, 1.0, ALPHAS).noise(0)
    assert hook.noise(0, planned).sigma == pytest.approx(reference.noise(0, planned).sigma, rel=1e-6)


def test_released_code_has_the_reduced_noise_in_the_direction_too():
    planned = ddim("uniform", 20, 1.0, ALPHAS).noise(5)
    ours, released = (restored([0.2] * 20, compat).noise(5, planned) for compat in (False, True))
    assert ours.sigma == released.sigma == released.direction
    assert ours.direction == planned.direction > ours.sigma


@pytest.mark.parametrize("compat", [False, True])
def test_a_sampler_without_noise_stays_without(compat):
    schedule, hook = ddim("uniform", 20, 0.0, ALPHAS), restored([0.5] * 20, compat)
    for s in range(20):
        assert hook.noise(s, schedule.noise(s)) == schedule.noise(s)
        assert schedule.noise(s).sigma == 0


def test_a_second_hook_starts_from_what_the_first_one_planned():
    planned = ddim("uniform", 20, 1.0, ALPHAS).noise(5)
    first, second = restored([0.1] * 20), restored([0.2] * 20)
    both = restored([math.hypot(0.1, 0.2)] * 20)
    assert second.noise(5, first.noise(5, planned)).sigma == pytest.approx(both.noise(5, planned).sigma, rel=1e-6)


def test_repeated_timesteps_have_no_noise_to_calibrate():
    schedule = ddim("quad", 100, 1.0, ALPHAS)
    assert restored([0.3] * 100).noise(97, schedule.noise(97)) == StepNoise(
        float(schedule.alpha[97]), float(schedule.alpha_next[97]), 0.0, 0.0
    )


def test_the_option_says_how_many_trajectories_are_wanted():
    assert Ptqd(PtqdOptions(trajectories=12)).trajectories == 12
