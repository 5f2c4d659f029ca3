"""The Inception score: exp of the mean divergence of each image's class probabilities from those of its split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ptqbench.engine.rng import stream
from ptqbench.errors import CellFailedError
from ptqbench.evaluate.evidence import Evidence
from ptqbench.evaluate.intervals import mean_interval, partition
from ptqbench.roles.features import PROBABILITIES, FeatureInfo
from ptqbench.roles.metric import Metric, MetricValue
from ptqbench_metrics.naming import column, features_of, value_of
from ptqbench_metrics.options import ScoreOptions

SHUFFLE = "metric/inception-score"
"""Name of the random stream that deals images into splits, the same for every cell."""


class InceptionScore(Metric):
    """Mean of the splits' scores, with Student's t interval over the splits.

    Images are shuffled first: splits of class-ordered images hold few classes, and their scores are far too low.
    """

    better = "higher"
    reads = (PROBABILITIES,)
    options: ScoreOptions

    def names(self, extractor: FeatureInfo) -> list[str]:
        """One name without a reference, since the score has none."""
        return [column("is", "is", extractor)]

    def compute(self, evidence: Evidence) -> Mapping[str, MetricValue]:
        """Raises `CellFailedError` if a split has fewer images than there are classes."""
        (name,) = self.names(evidence.extractor)
        rows = features_of(evidence, "cell", PROBABILITIES, name, "inception-score").rows()
        splits, classes = self.options.splits, rows.shape[1]
        if len(rows) // splits < classes:
            raise CellFailedError(
                f"{len(rows)} images in {splits} splits are fewer per split than the {classes} classes: the score could not "
                "reach its value and would measure the size of splits",
                f"generate at least {splits * classes} images (sampling.images), set fewer splits, or leave the metric out",
            )
        parts = shuffled(len(rows), splits)
        interval = mean_interval([score(rows[part]) for part in parts])
        return {name: value_of(interval, len(rows), replicates=_without_each(rows, parts))}


def shuffled(count: int, splits: int) -> Sequence[Tensor]:
    """Rows 0..count-1 in `splits` parts of equal size (give or take one), after a fixed shuffle."""
    return torch.randperm(count, generator=stream(0, SHUFFLE)).tensor_split(splits)


def _without_each(rows: Tensor, parts: Sequence[Tensor]) -> list[float]:
    """The score with each block of images left out of whatever splits they are in."""
    labels = torch.from_numpy(partition(len(rows)))
    kept = ([part[labels[part] != block] for part in parts] for block in range(int(labels.max()) + 1))
    return [sum(score(rows[part]) for part in remaining) / len(parts) for remaining in kept]


def score(probabilities: Tensor) -> float:
    """exp of the mean over images of KL(p(y|x) || mean p(y)); an underflowed probability of 0 adds nothing."""
    marginal = probabilities.mean(dim=0)
    divergence = torch.special.xlogy(probabilities, probabilities) - torch.special.xlogy(probabilities, marginal)
    return float(divergence.sum(dim=1).mean().exp())
