"""One interval over images and calibration seeds: does it hold the truth 95 times in 100?"""

from __future__ import annotations

import numpy as np
import pytest

from ptqbench.results.rows import Row, Summary
from ptqbench.results.uncertainty import interval, spreads


def summary(values: np.ndarray, half: float, low: float | None = None) -> Summary:
    mean = float(values.mean())
    return Summary(mean, mean - half if low is None else low, mean + half, 128, "lower", tuple(values), "images")


def row(name: str, found: Summary) -> Row:
    return Row(name, "W4A8", "", (), (), {"m": found})


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_coverage(seeds: int, ratio: float) -> None:
    """Four methods with image noise of their own size; the spread over calibrations is `ratio` times as large."""
    rng, inside, trials = np.random.default_rng(seeds), 0, 1500
    for _ in range(trials):
        rows = []
        for i, size in enumerate((1.0, 1.0, 3.0, 10.0)):
            # The seeds share their images, so that their noise does not average out.
            values = rng.normal() * size + rng.normal(size=seeds) * size * ratio
            rows.append(row(f"m{i}", summary(values, 1.96 * size)))
        spread = spreads(rows, "m")["W4A8"]
        low, high = interval(rows[0].metrics["m"], spread)
        inside += low <= 0.0 <= high
    assert 0.94 <= inside / trials <= 0.985


def test_one_seed_and_what_no_calibration_changes_keep_their_own_interval() -> None:
    alone = summary(np.array([3.0]), 0.4)
    assert spreads([row("a", alone)], "m") == {}
    assert interval(alone, None) == (alone.low, alone.high)
    fixed, moving = summary(np.array([3.0, 3.0]), 0.4), summary(np.array([3.0, 4.0]), 0.4)
    spread = spreads([row("a", fixed), row("b", moving)], "m")["W4A8"]
    assert spread.freedom == 1
    assert interval(fixed, spread) == (fixed.low, fixed.high)
    low, high = interval(moving, spread)
    assert low < moving.low and high > moving.high


def test_a_distance_is_not_pushed_below_zero_and_keeps_its_form() -> None:
    found = summary(np.array([0.3, 0.5]), 0.5, low=0.0)
    low, high = interval(found, spreads([row("a", found)], "m")["W4A8"])
    assert low == 0.0
    assert high > found.high
