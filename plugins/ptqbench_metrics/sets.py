"""Metrics that compare a cell's set of images with a reference set, through features."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from ptqbench.errors import CellFailedError
from ptqbench.evaluate import distances
from ptqbench.evaluate.evidence import Evidence
from ptqbench.evaluate.intervals import Interval, jackknife_interval, mean_interval, partition
from ptqbench.roles.metric import Metric, MetricValue
from ptqbench_metrics import FrechetOptions, KernelOptions


class SetDistance(Metric):
    """A distance between sets of features, named "<label>-<features>@<reference>".

    @data: the real images are a fixed reference, and the interval is about drawing other generated images. @fp: row i
    of both sets comes from the same noise, and the interval is about drawing other noise.
    """

    label = ""
    options: FrechetOptions | KernelOptions

    def names(self, feature_name: str) -> list[str]:
        """One name for each reference that the options ask for."""
        return [self._name(feature_name, which) for which in self._references()]

    def compute(self, evidence: Evidence) -> Mapping[str, MetricValue]:
        """Raises `CellFailedError` for too few images, features that are not finite, or a reference that is missing."""
        ours = self._features(evidence, "cell")
        found = {}
        for which in self._references():
            if which == "fp" and evidence.is_full_precision:
                continue
            if which == "data" and self.options.reference == "both" and evidence.features("data") is None:
                continue
            x = self.measure(ours, self._features(evidence, which), paired=which == "fp")
            found[self._name(evidence.feature_name, which)] = MetricValue(x.value, x.low, x.high, len(ours))
        return found

    @abstractmethod
    def measure(self, features: Tensor, reference: Tensor, *, paired: bool) -> Interval:
        """The distance of features (N, D) to (M, D) with its interval; `paired` when rows share their noise."""

    def _references(self) -> list[str]:
        return ["data", "fp"] if self.options.reference == "both" else [self.options.reference]

    def _name(self, feature_name: str, which: str) -> str:
        return f"{self.label}-{feature_name}@{which}"

    def _features(self, evidence: Evidence, which: str) -> Tensor:
        features = evidence.features(which)
        if features is None:
            raise CellFailedError(
                f"{self._name(evidence.feature_name, which)} needs real images, and this model brings none",
                f'write metrics = [{{ use = "{self.label}", reference = "fp" }}, ...] in the recipe\'s [evaluation]',
            )
        return features


class FrechetDistance(SetDistance):
    """Frechet distance between Gaussians fitted to the features; interval by a delete-a-block jackknife."""

    label = "fd"

    def measure(self, features: Tensor, reference: Tensor, *, paired: bool) -> Interval:
        """The distance is never negative, and so the lower end is cut at 0."""
        value = distances.frechet_distance(features, reference)
        left_out = distances.frechet_without_blocks(features, reference, partition(len(features)), paired=paired)
        interval = jackknife_interval(value, left_out)
        return Interval(interval.value, max(0.0, interval.low), interval.high)


class KernelDistance(SetDistance):
    """Unbiased squared MMD under the kernel (x.y / D + 1)^3; interval by jackknife, or over disjoint subsets."""

    label = "kid"
    options: KernelOptions

    def measure(self, features: Tensor, reference: Tensor, *, paired: bool) -> Interval:
        """May be negative: the estimate is unbiased."""
        if self.options.subset:
            return self._over_subsets(features, reference, paired)
        value, left_out = distances.kernel_distance_blocks(features, reference, partition(len(features)), paired=paired)
        return jackknife_interval(value, left_out)

    def _over_subsets(self, features: Tensor, reference: Tensor, paired: bool) -> Interval:
        size = self.options.subset
        count = len(features) // size
        if size < 2 or count < 2:
            raise CellFailedError(
                f"{len(features)} images do not make two subsets of {size} (at least 2) images",
                "set a smaller subset, subset = 0 for the whole set, or a larger sampling.images",
            )
        labels = partition(len(features), count)
        parts = [np.flatnonzero(labels == block) for block in range(count)]
        pairs = [(features[part], reference[part] if paired else reference) for part in parts]
        return mean_interval([distances.kernel_distance(x, y, paired=paired) for x, y in pairs])
