"""What a mean over images hides: its median, and images that became another picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from metrickit import evidence_of, number
from scipy.stats import binom

from ptqbench.errors import CellFailedError
from ptqbench.evaluate.intervals import partition
from ptqbench.evaluate.paired import Arm, paired_difference
from ptqbench_metrics.naming import mean_value, median_value


def test_one_image_that_became_another_moves_the_mean_and_not_the_median() -> None:
    values = np.random.default_rng(0).normal(42.0, 0.5, size=64)
    spoilt = np.where(np.arange(64) < 4, 5.0, values)
    assert mean_value(values).value - mean_value(spoilt).value > 2
    assert abs(median_value(values).value - median_value(spoilt).value) < 0.1


def test_the_median_lies_between_order_statistics_with_a_binomial_chance() -> None:
    values = np.random.default_rng(1).permutation(np.arange(50.0))
    found = median_value(values)
    assert (found.value, found.n) == (24.5, 50)
    # Between the values of rank r and 50 - r + 1 the median lies with a chance of P(r <= B < 50 - r + 1).
    rank = int(found.low) + 1
    assert found.high == 50 - rank
    assert binom.cdf(50 - rank, 50, 0.5) - binom.cdf(rank - 1, 50, 0.5) >= 0.95
    assert binom.cdf(50 - rank - 1, 50, 0.5) - binom.cdf(rank, 50, 0.5) < 0.95, "no wider than it has to be"
    labels = partition(50, 8)
    assert found.replicates == [float(np.median(values[labels != block])) for block in range(8)], "six values and more in each"
    assert len(median_value(np.arange(120.0)).replicates) == 20
    assert not median_value(np.arange(11.0)).replicates


@pytest.mark.parametrize("images", [16, 128])
def test_differences_of_medians_are_called_different_by_chance_in_one_of_twenty(images: int) -> None:
    """A median is no smooth statistic, but leaving out blocks does for it."""
    rng, wrong = np.random.default_rng(2), 0
    for _ in range(300):
        shared = rng.normal(size=images) * 3
        arms = [median_value(shared + rng.normal(size=images)) for _ in range(2)]
        ours, theirs = (Arm({0: x.value}, {0: np.asarray(x.replicates)}) for x in arms)
        wrong += paired_difference(ours, theirs).p < 0.05
    assert wrong / 300 < 0.08


@pytest.mark.parametrize("values", [np.arange(5.0), np.array([1.0, np.nan, 2, 3, 4, 5, 6])])
def test_a_median_without_an_interval_is_refused(values: np.ndarray) -> None:
    with pytest.raises(CellFailedError):
        median_value(values)


def classes(*chosen: int) -> torch.Tensor:
    """Probabilities whose largest is that of the given classes, of four."""
    return torch.nn.functional.one_hot(torch.tensor(chosen), 4).double() * 0.6 + 0.1


def test_images_of_another_class_are_counted_in_pairs() -> None:
    # The same classes in another order: as sets they are equal, as pairs they are not.
    fp, ours = classes(0, 1, 2, 3, 0, 1, 2, 3, 0, 1), classes(1, 0, 2, 3, 0, 1, 2, 3, 0, 0)
    found = number("class-changed", evidence_of(probabilities=ours, fp=fp, size=3))
    assert (found.value, found.n) == (pytest.approx(0.3), 10)
    z = 1.959964
    middle, half = (0.3 + z**2 / 20) / (1 + z**2 / 10), z * (0.021 + z**2 / 400) ** 0.5 / (1 + z**2 / 10)
    assert (found.low, found.high) == (pytest.approx(middle - half), pytest.approx(middle + half))  # Wilson's
    # Ten blocks of one image: without a changed one 2 of 9 are left, without another 3 of 9.
    assert sorted(found.replicates) == pytest.approx([2 / 9] * 3 + [3 / 9] * 7)


def test_no_changed_image_is_no_proof_that_there_is_none() -> None:
    found = number("class-changed", evidence_of(probabilities=classes(0, 1, 2, 3), fp=classes(0, 1, 2, 3)))
    assert found.value == found.low == 0.0
    assert found.high > 0.3


def test_classes_of_images_that_do_not_pair_are_refused() -> None:
    with pytest.raises(CellFailedError, match="do not pair"):
        number("class-changed", evidence_of(probabilities=classes(0, 1), fp=classes(0, 1, 2)))
