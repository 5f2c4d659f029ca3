"""Precision and recall of a cell's images, through features."""

from __future__ import annotations

from collections.abc import Mapping

from ptqbench.evaluate.evidence import Evidence
from ptqbench.evaluate.manifolds import ball_radii, coverage
from ptqbench.roles.features import POOL, FeatureInfo
from ptqbench.roles.metric import Metric, MetricValue
from ptqbench_metrics.naming import applicable, column, features_of, references, share_value
from ptqbench_metrics.options import ManifoldOptions

USE = "precision-recall"


class PrecisionRecall(Metric):
    """Precision: the share of generated images inside the reference's manifold. Recall: the other way round.

    Each number's n is the count of images that could be inside, and its interval is Wilson's for that many independent
    images before a fixed manifold.
    """

    better = "higher"
    reads = (POOL,)
    options: ManifoldOptions

    def names(self, extractor: FeatureInfo) -> list[str]:
        """Precision and recall for each reference that the options ask for."""
        return [name for which in references(self.options.reference) for name in _names(extractor, which)]

    def least_images(self, extractor: FeatureInfo) -> int:
        """One more than the neighbours of each."""
        return self.options.neighbours + 1

    def compute(self, evidence: Evidence) -> Mapping[str, MetricValue]:
        """Raises `CellFailedError` for sets without k nearest neighbours, or a reference without images."""
        found = {}
        for which in applicable(evidence, self.options.reference, POOL):
            precision, recall = _names(evidence.extractor, which)
            cell, reference = (features_of(evidence, x, POOL, precision, USE) for x in ("cell", which))
            radii = [ball_radii(x, self.options.neighbours) for x in (cell, reference)]
            ours, theirs = coverage(cell, reference, *radii)
            # Full precision's manifold would lose the block as well, real images' does not.
            found[precision] = share_value(ours.numpy(), blocks=which == "data")
            found[recall] = share_value(theirs.numpy(), blocks=False)
        return found


def _names(extractor: FeatureInfo, which: str) -> tuple[str, str]:
    return column("precision", "precision", extractor, which), column("recall", "recall", extractor, which)
