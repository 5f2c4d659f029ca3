"""The ranges `minmax` and `ema`."""

from __future__ import annotations

import pytest
import torch
from quantkit import estimator
from torch import Tensor

from ptqbench.quant.grid import Levels, fake_quantize


def drawn(rows: int = 3, n: int = 50, seed: int = 0) -> Tensor:
    return torch.randn(rows, n, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["minmax", "mse"])
def test_extrema_of_many_batches_are_those_of_all_values(name: str) -> None:
    x = drawn(n=60)
    whole, parts = estimator(name, Levels(4)), estimator(name, Levels(4))
    whole.observe(x)
    for piece in x.split(7, dim=1):
        parts.observe(piece)
    assert all(torch.equal(a, b) for a, b in zip(whole.grid(), parts.grid(), strict=True))


@pytest.mark.parametrize("symmetric", [False, True])
def test_minmax_clips_nothing(symmetric: bool) -> None:
    levels = Levels(6, symmetric)
    x = drawn() + torch.tensor([[0.0], [9.0], [-9.0]])
    ranges = estimator("minmax", levels)
    ranges.observe(x)
    scale, zero = ranges.grid()
    error = fake_quantize(x, scale[:, None], zero[:, None], levels) - x
    assert bool((error.abs() <= 0.5001 * scale[:, None] + 0.5 * scale[:, None] * (not symmetric)).all())


def test_the_released_slip_clips_rows_of_one_sign() -> None:
    x = drawn() + 9
    right, slip = estimator("minmax", Levels(8)), estimator("minmax", Levels(8), compat=True)
    for ranges in (right, slip):
        ranges.observe(x)
    (scale, zero), (small, same_zero) = right.grid(), slip.grid()
    assert bool((small < scale).all())
    assert torch.equal(zero, same_zero)
    assert bool((fake_quantize(x, small[:, None], same_zero[:, None], Levels(8)).amax(1) < x.amax(1) - 1).all())


def test_moving_average_by_hand() -> None:
    ranges = estimator("ema", Levels(8), momentum=0.75)
    for low, high in ((-1.0, 1.0), (-3.0, 2.0), (-2.0, 0.0)):
        # However an update's values come in batches.
        for value in (low, 0.0, high):
            ranges.observe(torch.tensor([[value]]))
        ranges.end_update()
    low, high = 0.75 * (0.75 * -1 + 0.25 * -3) + 0.25 * -2, 0.75 * (0.75 * 1 + 0.25 * 2)
    scale, zero = ranges.grid()
    assert scale.item() == pytest.approx((high - low) / 255, rel=1e-6)
    assert zero.item() == round(-low / ((high - low) / 255))


def test_moving_average_can_be_made_to_contain_zero() -> None:
    raw, widened = estimator("ema", Levels(4)), estimator("ema", Levels(4), include_zero=True)
    for ranges in (raw, widened):
        ranges.observe(drawn().abs() + 5)
    assert bool((raw.grid()[1] < 0).all())
    assert torch.equal(widened.grid()[1], torch.zeros(3))


@pytest.mark.parametrize("name", ["minmax", "ema", "mse"])
def test_one_batch_of_constant_values_gives_a_positive_scale(name: str) -> None:
    for value in (0.0, 0.5, -0.5):
        for symmetric in (False, True):
            levels = Levels(4, symmetric)
            ranges = estimator(name, levels)
            x = torch.full((2, 9), value)
            ranges.observe(x)
            scale, zero = ranges.grid()
            assert bool((scale > 0).all())
            assert bool(torch.isfinite(zero).all())
            torch.testing.assert_close(fake_quantize(x, scale[:, None], zero[:, None], levels), x, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("name", ["minmax", "ema", "mse"])
def test_nothing_observed_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="before any value"):
        estimator(name, Levels(4)).grid()
