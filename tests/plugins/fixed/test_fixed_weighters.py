"""The weighters that learn nothing: formulas by hand, the mean, reports, and refusals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from ptqbench.errors import CellFailedError
from ptqbench.roles.weighter import Batch
from ptqbench_fixed import EarlyOptions, InverseErrorOptions, LateOptions, RandomOptions
from ptqbench_fixed.weighter import Early, FixedWeighter, InverseError, Late, Random


@dataclass
class Steps:
    """As much of an inner problem as these weighters look at."""

    timesteps: Tensor = field(default_factory=lambda: torch.tensor([801, 601, 401, 200, 1]))
    train_steps: Tensor = field(default_factory=lambda: torch.tensor([0, 4, 3, 1, 4, 2]))
    error: Tensor = field(default_factory=lambda: torch.tensor([0.1, 0.2, 0.4, 0.5, 2.0]))

    def denoising_error(self) -> Tensor:
        return self.error


def batch(index: list[int], dtype: torch.dtype = torch.float32) -> Batch:
    where = torch.tensor(index)
    return Batch(where, Steps().train_steps[where], (), {}, (torch.zeros(len(index), 2, dtype=dtype),), seed=0)


def begun(weighter: FixedWeighter, problem: Any = None, seed: int = 0) -> FixedWeighter:
    weighter.begin_unit("unit", "rounding", problem or Steps(), torch.Generator().manual_seed(seed))
    return weighter


def ratios(weighter: FixedWeighter) -> Tensor:
    return weighter.report()["weights"] / weighter.report()["weights"].min()


MADE = {
    "late": lambda: Late(LateOptions()),
    "early": lambda: Early(EarlyOptions()),
    "inverse-error": lambda: InverseError(InverseErrorOptions()),
    "random": lambda: Random(RandomOptions()),
}


@pytest.mark.parametrize("name", list(MADE))
def test_weights_have_mean_one_and_are_those_of_the_report(name: str) -> None:
    weighter = begun(MADE[name]())
    report = weighter.report()
    assert report["weights"].shape == (6,)
    assert float(report["weights"].mean()) == pytest.approx(1)
    assert float(report["weights"].std()) > 0.1
    assert torch.equal(report["step"], Steps().train_steps)
    found = weighter.weights(batch([5, 1, 1], torch.float64), Steps())
    assert found.dtype == torch.float64
    assert torch.equal(found, report["weights"][[5, 1, 1]].double())
    assert not found.requires_grad


def test_late_counts_small_timesteps_several_times_and_the_threshold_itself_once() -> None:
    assert ratios(begun(Late(LateOptions(factor=3.0)))).tolist() == [1, 3, 1, 1, 3, 1]
    assert ratios(begun(Late(LateOptions(factor=3.0, threshold=201)))).tolist() == [1, 3, 3, 1, 3, 1]


def test_early_counts_large_timesteps_several_times_and_the_threshold_itself_once() -> None:
    assert ratios(begun(Early(EarlyOptions(factor=3.0)))).tolist() == [3, 1, 1, 1, 1, 1]
    assert ratios(begun(Early(EarlyOptions(factor=3.0, threshold=601)))).tolist() == [3, 1, 1, 1, 1, 1]
    assert ratios(begun(Early(EarlyOptions(factor=3.0, threshold=600)))).tolist() == [3, 1, 1, 3, 1, 1]


@pytest.mark.parametrize("power", [0.5, 1.0, 40.0])
def test_inverse_error_is_the_inverse_of_each_samples_step(power: float) -> None:
    found = begun(InverseError(InverseErrorOptions(power=power))).report()["weights"].double()
    expected = Steps().error.double()[Steps().train_steps] ** -power
    torch.testing.assert_close(found, expected / expected.mean(), rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
def test_an_error_without_an_inverse_is_refused(bad: float) -> None:
    problem = Steps(error=torch.tensor([0.1, 0.2, bad, 0.5, 2.0]))
    with pytest.raises(CellFailedError, match="zero or not finite"):
        begun(InverseError(InverseErrorOptions()), problem)


def test_random_weights_are_a_softmax_of_the_units_own_stream() -> None:
    z = torch.randn(6, generator=torch.Generator().manual_seed(7))
    expected = (2 * z).exp() / (2 * z).exp().mean()
    torch.testing.assert_close(begun(Random(RandomOptions(spread=2.0)), seed=7).report()["weights"], expected)
    assert not torch.equal(*(begun(Random(RandomOptions()), seed=s).report()["weights"] for s in (1, 2)))
    assert torch.equal(*(begun(Random(RandomOptions()), seed=1).report()["weights"] for _ in range(2)))
    assert ratios(begun(Random(RandomOptions(spread=0.0)))).tolist() == [1] * 6


@pytest.mark.parametrize(("name", "threshold"), [("late", 1), ("late", 900), ("early", 0), ("early", 900)])
def test_a_threshold_beyond_all_samples_is_refused(name: str, threshold: int) -> None:
    weighter = Late(LateOptions(threshold=threshold)) if name == "late" else Early(EarlyOptions(threshold=threshold))
    with pytest.raises(CellFailedError, match=f"{name}: timesteps .* training sample"):
        begun(weighter)
