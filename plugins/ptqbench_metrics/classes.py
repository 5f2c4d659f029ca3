"""Images that a classifier reads as something else than full precision's from the same noise."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ptqbench.errors import CellFailedError
from ptqbench.evaluate.evidence import Evidence
from ptqbench.evaluate.features import FeatureSet
from ptqbench.roles.features import PROBABILITIES, FeatureInfo
from ptqbench.roles.metric import Metric, MetricValue
from ptqbench_metrics.naming import column, features_of, share_value

ROWS = 4096
"""Images whose probabilities are read at a time."""


class ClassChanged(Metric):
    """Share of images whose most probable class is another than that of full precision's image from the same noise.

    Means over images hide single ones that turned into another picture. Image i has its own noise, so that the pairs are
    independent and their count is binomial; a block of ids that is left out leaves both sets. For one model against itself
    the share is 0.
    """

    relative = True
    reads = (PROBABILITIES,)

    def names(self, extractor: FeatureInfo) -> list[str]:
        """One name, which carries the extractor: whose classes they are decides the number."""
        return [column("class-changed", "", extractor, "fp")]

    def compute(self, evidence: Evidence) -> Mapping[str, MetricValue]:
        """Raises `CellFailedError` for images that do not pair."""
        if evidence.is_full_precision:
            return {}
        (name,) = self.names(evidence.extractor)
        ours, theirs = (
            _classes(features_of(evidence, which, PROBABILITIES, name, "class-changed")) for which in ("cell", "fp")
        )
        if len(ours) != len(theirs):
            raise CellFailedError(
                f"{len(ours)} images do not pair with {len(theirs)} full-precision images",
                "remove the cached images of this cell and run it again",
            )
        return {name: share_value(ours != theirs)}


def _classes(features: FeatureSet) -> NDArray[np.int64]:
    """The most probable class of each image (N,); of equal ones the first."""
    return np.concatenate([part.argmax(dim=1).numpy() for part in features.slices(ROWS)])
