"""Intervals of paired differences: the delete-a-block jackknife that tables use, beside a paired bootstrap over image ids.

Over many data sets the two have the same width on average, to within 10 % (docs/statistics.md). A single jackknife of 20
blocks scatters by 16 % around it, which Student's t with 19 degrees of freedom accounts for.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import stdtrit
from scipy.stats import bootstrap, norm

from ptqbench.evaluate.distances import frechet_distance, frechet_without_blocks
from ptqbench.evaluate.features import FeatureSet
from ptqbench.evaluate.intervals import partition
from ptqbench.evaluate.paired import Arm, paired_difference
from ptqbench_metrics.naming import mean_value

IMAGES = 400
TOLERANCE = 0.1
T_TO_NORMAL = float(stdtrit(19, 0.975) / norm.ppf(0.975))
"""How much longer an interval is that knows its variance from 20 blocks only."""


def arm(value: float, replicates: list[float]) -> Arm:
    """One method under one calibration seed."""
    return Arm({0: value}, {0: np.asarray(replicates)})


def test_means_over_image_ids() -> None:
    """Errors of two methods on the same images, skewed as squared errors are, against scipy's paired bootstrap."""
    ratios = []
    for trial in range(40):
        rng = np.random.default_rng(trial)
        shared = rng.gamma(2.0, 1.0, IMAGES)
        ours, theirs = (shared * scale * rng.lognormal(0.0, 0.2, IMAGES) for scale in (1.1, 1.0))
        found = [mean_value(x) for x in (ours, theirs)]
        ends = paired_difference(*(arm(x.value, list(x.replicates)) for x in found))
        assert ends.value == pytest.approx(np.mean(ours - theirs))
        drawn = bootstrap(
            (ours, theirs),
            lambda a, b, axis: np.mean(a, axis=axis) - np.mean(b, axis=axis),
            paired=True,
            n_resamples=1000,
            method="percentile",
            random_state=rng,
        ).confidence_interval
        ratios.append((ends.high - ends.low) / (drawn.high - drawn.low))
        assert ends.low < drawn.high
        assert drawn.low < ends.high
    assert np.mean(ratios) / T_TO_NORMAL == pytest.approx(1.0, abs=TOLERANCE)
    assert np.std(ratios) < 0.25


def features(rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, FeatureSet]:
    """Features (N, 3) of two methods that start from the same noise, and of a fixed reference."""
    noise = rng.standard_normal((IMAGES, 3))
    ours, theirs = (noise * scale + shift + 0.3 * rng.standard_normal((IMAGES, 3)) for scale, shift in ((1.2, 0.3), (1.1, 0.1)))
    reference = rng.standard_normal((4 * IMAGES, 3))
    return torch.from_numpy(ours), torch.from_numpy(theirs), FeatureSet.of(torch.from_numpy(reference))


def test_frechet_distances_of_sets_whose_ids_are_drawn_together() -> None:
    ratios, shifts, alone = [], [], []
    for trial in range(25):
        rng = np.random.default_rng(trial)
        ours, theirs, reference = features(rng)
        blocks = partition(IMAGES)
        arms = [arm(frechet_distance(x, reference), frechet_without_blocks(x, reference, blocks)) for x in (ours, theirs)]
        ends = paired_difference(*arms)
        ids = (torch.from_numpy(rng.integers(0, IMAGES, IMAGES)) for _ in range(120))
        drawn = np.array([[frechet_distance(x[i], reference) for x in (ours, theirs)] for i in ids])
        error = np.std(drawn[:, 0] - drawn[:, 1], ddof=1)
        ratios.append((ends.high - ends.low) / 2 / (stdtrit(19, 0.975) * error))
        shifts.append((np.mean(drawn[:, 0] - drawn[:, 1]) - ends.value) / error)
        alone.append((np.mean(drawn[:, 0]) - arms[0].values[0]) / np.std(drawn[:, 0], ddof=1))
    assert np.mean(ratios) == pytest.approx(1.0, abs=TOLERANCE)
    # A resample repeats images and acts like a smaller set: each distance is too large, and their difference hardly.
    assert np.mean(alone) > 0.1
    assert abs(np.mean(shifts)) < np.mean(alone) / 2
