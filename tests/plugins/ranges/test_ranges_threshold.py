"""The range `threshold` against a plain loop in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ptqbench.quant.grid import Levels, fake_quantize
from ptqbench_ranges import ThresholdOptions
from ptqbench_ranges.scoring import Thinned
from ptqbench_ranges.threshold import Threshold

SIDES = {"both": (-1, 1), "positive": (0, 1), "negative": (-1, 0)}


def threshold(levels: Levels, **options: float) -> Threshold:
    return Threshold(ThresholdOptions(**options), levels=levels)


def drawn(side: str = "both", rows: int = 4, n: int = 300, seed: int = 0) -> Tensor:
    x = torch.randn(rows, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = x * torch.linspace(0.1, 3, rows, dtype=torch.float64)[:, None] + 0.3
    return {"both": x, "positive": x.abs(), "negative": -x.abs()}[side]


def best_threshold(row: np.ndarray, bits: int, sides: tuple[int, int], candidates: int, power: float) -> float:
    """The threshold with the smallest error under the unsigned grid, candidate by candidate."""
    top = 2**bits - 1
    best, found = np.inf, 0.0
    for k in range(1, candidates + 1):
        m = k / candidates * np.abs(row).max()
        lo, hi = sides[0] * m, sides[1] * m
        scale = (hi - lo) / top
        zero = {(-1, 1): 2 ** (bits - 1), (0, 1): 0, (-1, 0): top}[sides]
        codes = np.clip(np.round(row / scale) + zero, 0, top)
        error = np.mean(np.abs(row - (codes - zero) * scale) ** power)
        if error < best:
            best, found = error, m
    return found


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("candidates", "power"), [(100, 2.4), (30, 2.0)])
def test_the_threshold_matches_a_loop(side: str, bits: int, candidates: int, power: float) -> None:
    x, (below, above) = drawn(side), SIDES[side]
    ranges = threshold(Levels(bits), candidates=candidates, power=power)
    ranges.observe(x)
    scale, zero = ranges.grid()
    found = [best_threshold(row, bits, (below, above), candidates, power) for row in x.numpy()]
    expected = torch.tensor(found, dtype=torch.float64) * (above - below) / (2**bits - 1)
    torch.testing.assert_close(scale, expected)
    assert set(zero.tolist()) == {{"both": 2 ** (bits - 1), "positive": 0, "negative": 2**bits - 1}[side]}


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_zero_point_of_a_symmetric_range_is_the_exact_half_rounded_to_even(bits: int) -> None:
    for scale in (1.0, 0.1, 3.7e-5):
        ranges = threshold(Levels(bits))
        ranges.observe(drawn().float() * scale)
        assert set(ranges.grid()[1].tolist()) == {float(np.round((2**bits - 1) / 2))}


def test_a_signed_grid_has_its_zero_in_the_middle() -> None:
    levels, x = Levels(4, symmetric=True), drawn()
    ranges = threshold(levels)
    ranges.observe(x)
    scale, zero = ranges.grid()
    assert torch.equal(zero, torch.zeros(4, dtype=torch.float64))
    error = (fake_quantize(x, scale[:, None], zero[:, None], levels) - x).abs().pow(2.4).mean(1)
    for factor in (0.9, 1.1):
        other = (fake_quantize(x, factor * scale[:, None], zero[:, None], levels) - x).abs().pow(2.4).mean(1)
        assert float((error - other).max()) < 0.01 * float(other.max())


def test_updates_are_searched_one_by_one_and_averaged() -> None:
    batches = [drawn(seed=i) * (i + 1) for i in range(3)]
    ranges, expected = threshold(Levels(4), momentum=0.75), None
    for x in batches:
        alone = threshold(Levels(4))
        alone.observe(x)
        for piece in x.split(70, dim=1):
            ranges.observe(piece)
        ranges.end_update()
        scale = alone.grid()[0]
        expected = scale if expected is None else 0.75 * expected + 0.25 * scale
    torch.testing.assert_close(ranges.grid()[0], expected)


def test_the_first_update_decides_about_the_sides_and_all_rows_together() -> None:
    first_positive, mixed_rows = threshold(Levels(4)), threshold(Levels(4))
    first_positive.observe(drawn("positive"))
    first_positive.end_update()
    first_positive.observe(drawn("both"))
    assert torch.equal(first_positive.grid()[1], torch.zeros(4, dtype=torch.float64))
    mixed_rows.observe(torch.cat([drawn("positive"), drawn("negative")]))
    assert set(mixed_rows.grid()[1].tolist()) == {8.0}


def test_sites_without_values_below_zero_start_at_zero() -> None:
    ranges, plain = (threshold(Levels(4, nonnegative=special)) for special in (True, False))
    ranges.observe(drawn("both"))
    plain.observe(drawn("positive"))
    assert torch.equal(ranges.grid()[1], torch.zeros(4, dtype=torch.float64))
    assert torch.equal(plain.grid()[1], torch.zeros(4, dtype=torch.float64))


def test_constant_rows_give_positive_scales() -> None:
    for value in (0.0, 0.5, -0.5):
        for symmetric in (False, True):
            levels, x = Levels(4, symmetric), torch.full((2, 9), value)
            ranges = threshold(levels)
            ranges.observe(x)
            scale, zero = ranges.grid()
            assert bool((scale > 0).all())
            torch.testing.assert_close(fake_quantize(x, scale[:, None], zero[:, None], levels), x, rtol=1e-2, atol=1e-6)


def test_long_rows_are_thinned_evenly() -> None:
    x = torch.arange(5000.0).reshape(1, -1)
    for limit, stride in ((256, 27), (5000, 1)):
        for size in (5000, 170, 1):
            kept = Thinned(limit)
            for piece in x.split(size, dim=1):
                kept.add(piece)
            assert torch.equal(kept.values()[0], torch.arange(0, 5000, float(stride)))
    exact, fewer = threshold(Levels(4), max_values=100_000), threshold(Levels(4), max_values=8000)
    for ranges in (exact, fewer):
        ranges.observe(torch.randn(1, 60_000, generator=torch.Generator().manual_seed(0)))
    assert fewer.grid()[0].item() == pytest.approx(exact.grid()[0].item(), rel=0.05)


def test_nothing_observed_is_refused() -> None:
    with pytest.raises(ValueError, match="before any value"):
        threshold(Levels(4)).grid()
