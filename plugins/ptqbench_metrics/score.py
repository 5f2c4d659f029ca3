"""The Inception score: exp of the mean divergence of each image's class probabilities from those of its split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ptqbench.errors import CellFailedError
from ptqbench.evaluate.evidence import Evidence
from ptqbench.evaluate.intervals import mean_interval, partition
from ptqbench.roles.features import PROBABILITIES, FeatureInfo
from ptqbench.roles.metric import Metric, MetricValue
from ptqbench.sampling.rng import stream
from ptqbench_metrics.naming import column, features_of, value_of
from ptqbench_metrics.options import ScoreOptions

SHUFFLE = "metric/inception-score"
"""Name of the random stream that deals images into splits, the same for every cell."""
ROWS = 4096
"""Images whose probabilities are read at a time."""


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

    def least_images(self, extractor: FeatureInfo) -> int:
        """As many in each split as there are classes."""
        return self.options.splits * extractor.outputs.get(PROBABILITIES, 1)

    def compute(self, evidence: Evidence) -> Mapping[str, MetricValue]:
        """Raises `CellFailedError` if a split has fewer images than there are classes."""
        (name,) = self.names(evidence.extractor)
        images = features_of(evidence, "cell", PROBABILITIES, name, "inception-score")
        count, splits, classes = len(images), self.options.splits, images.width
        if count // splits < classes:
            raise CellFailedError(
                f"{count} images in {splits} splits are fewer per split than the {classes} classes: the score could not "
                "reach its value and would measure the size of splits",
                f"generate at least {splits * classes} images (sampling.images), set fewer splits, or leave the metric out",
            )
        split, block = _split_of(count, splits), torch.from_numpy(partition(count))
        blocks = int(block.max()) + 1
        sums = Sums.over(images.slices(ROWS), split * blocks + block, splits * blocks).table(splits, blocks)
        interval = mean_interval(sums.total().scores().numpy())
        left_out = [float(sums.without(b).scores().mean()) for b in range(blocks)]
        return {name: value_of(interval, count, replicates=left_out)}


def shuffled(count: int, splits: int) -> Sequence[Tensor]:
    """Rows 0..count-1 in `splits` parts of equal size (give or take one), after a fixed shuffle."""
    return torch.randperm(count, generator=stream(0, SHUFFLE)).tensor_split(splits)


def score(probabilities: Tensor) -> float:
    """exp of the mean over images of KL(p(y|x) || mean p(y)) for probabilities (N, K) float64."""
    return float(Sums.over([probabilities], torch.zeros(len(probabilities), dtype=torch.int64), 1).scores())


@dataclass(frozen=True)
class Sums:
    """Sums over groups of images: how many (...), of sum_k p_k log p_k (...), and of p (..., K); float64.

    They add up, so that images need not be there at once, and blocks of them are left out by subtraction.
    """

    count: Tensor
    negentropy: Tensor
    mass: Tensor

    @classmethod
    def over(cls, parts: Iterable[Tensor], groups: Tensor, number: int) -> Sums:
        """Of images whose probabilities come in parts (n, K); `groups` (N,) int64 says each image's group from 0."""
        found: Sums | None = None
        start = 0
        for p in parts:
            group = groups[start : start + len(p)]
            start += len(p)
            if found is None:
                found = cls(
                    torch.zeros(number).double(), torch.zeros(number).double(), torch.zeros(number, p.shape[1]).double()
                )
            found.count.index_add_(0, group, torch.ones(len(p), dtype=torch.float64))
            found.negentropy.index_add_(0, group, torch.special.xlogy(p, p).sum(dim=1))
            found.mass.index_add_(0, group, p)
        if found is None:
            raise ValueError("there are no images")
        return found

    def table(self, splits: int, blocks: int) -> Sums:
        """Groups as a table (splits, blocks)."""
        return Sums(*(x.unflatten(0, (splits, blocks)) for x in (self.count, self.negentropy, self.mass)))

    def total(self) -> Sums:
        """Sums by split over all blocks."""
        return Sums(*(x.sum(dim=1) for x in (self.count, self.negentropy, self.mass)))

    def without(self, block: int) -> Sums:
        """Sums by split over all blocks but one."""
        return Sums(*(x.sum(dim=1) - x[:, block] for x in (self.count, self.negentropy, self.mass)))

    def scores(self) -> Tensor:
        """The score of each group: the mean divergence is the mean of sum p log p less that of the mean p.

        A probability of 0 (one that underflowed) adds nothing.
        """
        marginal = self.mass / self.count.unsqueeze(-1)
        return (self.negentropy / self.count - torch.special.xlogy(marginal, marginal).sum(dim=-1)).exp()


def _split_of(count: int, splits: int) -> Tensor:
    """The split of each image (count,)."""
    found = torch.empty(count, dtype=torch.int64)
    for split, part in enumerate(shuffled(count, splits)):
        found[part] = split
    return found
