"""A simulated comparison: features of images from shared noise, harmed by quantization and by the luck of calibration.

Image i of full precision has features x_i, drawn from a standard normal distribution. A method adds damage: a constant
part, a part that is the same for every method (what is hard for one grid is hard for another), a part of its own, and a
shift that is drawn anew for every calibration seed. The sizes are chosen, not fitted: at 256 images, the luck of
calibration moves the Frechet distance about twice as much as the image noise that two methods do not share, and the
image noise that they share is eight times as large. From there on everything is the benchmark's own code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ptqbench.evaluate.distances import frechet_distance, frechet_without_blocks
from ptqbench.evaluate.intervals import jackknife_interval, partition
from ptqbench.results.record import Number

Array = NDArray[np.float64]

DIMENSIONS = 4
REFERENCE = 2000
PROTOCOL = "simulated"


@dataclass(frozen=True)
class Setting:
    """Sizes of the simulation: standard deviations in units of the features' own, except for counts and `own_share`, the
    share of the damage that a method does not have in common with others."""

    images: int = 256
    seeds: int = 2
    damage: float = 0.5
    own_share: float = 0.5
    calibration: float = 0.01


@dataclass(frozen=True)
class Noise:
    """What one block of image noise brings: features, the damage that methods share, and the reference set."""

    features: Array
    damage: Array


def draw_noise(setting: Setting, rng: np.random.Generator) -> Noise:
    """Another block of image noise."""
    shape = (setting.images, DIMENSIONS)
    return Noise(rng.normal(size=shape), rng.normal(size=shape))


def reference_set(rng: np.random.Generator) -> Array:
    """Features of real images: a fixed set from the distribution of full precision."""
    return rng.normal(size=(REFERENCE, DIMENSIONS))


@dataclass(frozen=True)
class Method:
    """The luck of one method: its own damage on a block of noise, and a shift for each calibration seed."""

    own: Array
    shifts: Array


def draw_method(setting: Setting, rng: np.random.Generator) -> Method:
    """A method, with its calibrations."""
    own = rng.normal(size=(setting.images, DIMENSIONS))
    return Method(own, rng.normal(size=(setting.seeds, DIMENSIONS)) * setting.calibration)


def features_of(setting: Setting, noise: Noise, method: Method, seed: int, excess: float = 0.0) -> Array:
    """Features of the method's images: damage is larger by the share `excess` than that of a method without."""
    share = setting.own_share
    damage = np.sqrt(1 - share**2) * noise.damage + share * method.own
    constant = 1 / np.sqrt(DIMENSIONS)
    return noise.features + (1 + excess) * setting.damage * (damage + constant) + method.shifts[seed]


def frechet(features: Array, noise: Noise, reference: Array) -> Number:
    """The Frechet distance to real images, a set metric."""
    ours, theirs = torch.from_numpy(features), torch.from_numpy(reference)
    left_out = frechet_without_blocks(ours, theirs, partition(len(features)))
    return _number(frechet_distance(ours, theirs), left_out, len(features))


def image_error(features: Array, noise: Noise, reference: Array) -> Number:
    """Mean squared difference to full precision on equal noise, a mean over images."""
    errors = np.square(features - noise.features).mean(axis=1)
    labels = partition(len(errors))
    sums, counts = np.bincount(labels, errors), np.bincount(labels)
    return _number(float(errors.mean()), list((errors.sum() - sums) / (errors.size - counts)), len(errors))


METRICS: dict[str, Callable[[Array, Noise, Array], Number]] = {"fd@data": frechet, "mse@fp": image_error}
"""The metrics of the studies: one of sets, one of pairs of images."""


def measure(features: Array, noise: Noise, reference: Array) -> dict[str, Number]:
    """All metrics of one cell."""
    return {name: metric(features, noise, reference) for name, metric in METRICS.items()}


def _number(value: float, left_out: list[float], n: int) -> Number:
    x = jackknife_interval(value, left_out)
    return Number(value, x.low, x.high, n, protocol=PROTOCOL, replicates=[float(v) for v in left_out])
