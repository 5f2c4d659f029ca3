"""Intervals of a Frechet distance, and of the difference of two, cover a truth that is known in closed form."""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats

from ptqbench.evaluate.distances import frechet_distance, frechet_without_blocks
from ptqbench.evaluate.features import FeatureSet
from ptqbench.evaluate.intervals import jackknife_interval, partition
from ptqbench.evaluate.moments import Gaussian
from ptqbench.evaluate.paired import Arm, paired_difference

D, N, TRIALS = 2, 1000, 300
LOW, HIGH = stats.binom.ppf([5e-4, 1 - 5e-4], TRIALS, 0.95) / TRIALS
"""Coverage of 95 % lies within once in a thousand runs."""

SCALES, SHIFTS = (1.3, 1.35), (0.5, 0.55)


def test_coverage_at_the_stated_rate() -> None:
    """Both arms are N(shift, scale^2) made from the same normal draws; the reference is a fixed set.

    At this count the bias of the distance is a tenth of its standard error, so that the intervals cover the distance of
    the distributions, not only the mean of the estimate.
    """
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(3000, D, generator=generator, dtype=torch.float64)
    labels, eye = partition(N), torch.eye(D, dtype=torch.float64)
    arms = [Gaussian(shift * torch.ones(D).double(), scale**2 * eye) for scale, shift in zip(SCALES, SHIFTS, strict=True)]
    truth = [frechet_distance(FeatureSet(None, D, arm), reference) for arm in arms]
    covered, paired = [], []
    for _ in range(TRIALS):
        noise = torch.randn(N, D, generator=generator, dtype=torch.float64)
        sets = [scale * noise + shift for scale, shift in zip(SCALES, SHIFTS, strict=True)]
        values = [frechet_distance(x, reference) for x in sets]
        left_out = [frechet_without_blocks(x, reference, labels) for x in sets]
        interval = jackknife_interval(values[0], left_out[0])
        covered.append(interval.low <= truth[0] <= interval.high)
        a, b = (Arm({0: v}, {0: np.array(rest)}) for v, rest in zip(values, left_out, strict=True))
        difference = paired_difference(b, a)
        paired.append(difference.low <= truth[1] - truth[0] <= difference.high)
    assert LOW <= np.mean(covered) <= HIGH
    assert LOW <= np.mean(paired) <= HIGH
