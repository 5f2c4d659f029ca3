"""Distances between a cell's set of images and a reference set, through features."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import numpy as np

from ptqbench.errors import CellFailedError
from ptqbench.evaluate import distances, kernels
from ptqbench.evaluate.evidence import Evidence
from ptqbench.evaluate.features import FeatureSet
from ptqbench.evaluate.intervals import Interval, jackknife_interval, mean_interval, partition
from ptqbench.roles.features import POOL, SPATIAL, FeatureInfo
from ptqbench.roles.metric import Metric, MetricValue
from ptqbench_metrics.naming import applicable, clipped, column, features_of, references, value_of
from ptqbench_metrics.options import FrechetOptions, KernelOptions

Measured = tuple[Interval, list[float]]
"""A distance with its interval, and with each block of images left out (empty if not by blocks)."""


class SetDistance(Metric):
    """A distance between sets of one output's features, named as `naming.column` says.

    @data: the real images are a fixed reference, and the interval is about drawing other generated images. @fp: row i
    of both sets comes from the same noise, and the interval is about drawing other noise.
    """

    label = ""
    published = ""
    options: FrechetOptions | KernelOptions

    def names(self, extractor: FeatureInfo) -> list[str]:
        """One name for each reference that the options ask for."""
        return [self._name(extractor, which) for which in references(self.options.reference)]

    def compute(self, evidence: Evidence) -> Mapping[str, MetricValue]:
        """Raises `CellFailedError` for too few images, features that are not finite, or a reference that is missing."""
        (output,) = self.reads
        found = {}
        for which in applicable(evidence, self.options.reference, output):
            name = self._name(evidence.extractor, which)
            ours, theirs = (features_of(evidence, x, output, name, self.published or self.label) for x in ("cell", which))
            interval, left_out = self.measure(ours, theirs, paired=which == "fp")
            found[name] = value_of(interval, len(ours), replicates=left_out)
        return found

    @abstractmethod
    def measure(self, features: FeatureSet, reference: FeatureSet, *, paired: bool) -> Measured:
        """The distance of features (N, D) to (M, D); `paired` when rows share their noise."""

    def _name(self, extractor: FeatureInfo, which: str) -> str:
        return column(self.label, self.published, extractor, which)


class FrechetDistance(SetDistance):
    """Frechet distance between Gaussians fitted to the features; interval by a delete-a-block jackknife."""

    label = "fd"
    reads = (POOL,)
    from_statistics = True

    def least_images(self, extractor: FeatureInfo) -> int:
        """One more than there are features."""
        return distances.required_images(extractor.outputs[self.reads[0]])

    def measure(self, features: FeatureSet, reference: FeatureSet, *, paired: bool) -> Measured:
        """The distance is never negative, and so the lower end is cut at 0."""
        value = distances.frechet_distance(features, reference)
        left_out = distances.frechet_without_blocks(features, reference, partition(len(features)), paired=paired)
        return clipped(jackknife_interval(value, left_out), 0.0, np.inf), left_out


class InceptionDistance(FrechetDistance):
    """FID: the Frechet distance under the name that Inception's published features alone may carry."""

    published = "fid"


class SpatialDistance(FrechetDistance):
    """sFID: the Frechet distance on features that keep positions."""

    label = "sfd"
    published = "sfid"
    reads = (SPATIAL,)


class KernelDistance(SetDistance):
    """Unbiased squared MMD under the kernel (x.y / D + 1)^3; interval by jackknife, or over disjoint subsets."""

    label = "kid"
    published = "kid"
    reads = (POOL,)
    options: KernelOptions

    def least_images(self, extractor: FeatureInfo) -> int:
        """Two subsets; or two images and one that is left out."""
        return max(3, 2 * self.options.subset)

    def measure(self, features: FeatureSet, reference: FeatureSet, *, paired: bool) -> Measured:
        """May be negative: the estimate is unbiased."""
        if self.options.subset:
            return self._over_subsets(features, reference, paired), []
        value, left_out = kernels.kernel_distance_blocks(features, reference, partition(len(features)), paired=paired)
        return jackknife_interval(value, left_out), left_out

    def _over_subsets(self, features: FeatureSet, reference: FeatureSet, paired: bool) -> Interval:
        size = self.options.subset
        count = len(features) // size
        if size < 2 or count < 2:
            raise CellFailedError(
                f"{len(features)} images do not make two subsets of {size} (at least 2) images",
                "set a smaller subset, subset = 0 for the whole set, or a larger sampling.images",
            )
        labels = partition(len(features), count)
        return mean_interval(list(kernels.kernel_distance_subsets(features, reference, labels, paired=paired)))
