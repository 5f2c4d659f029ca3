"""A set of images as metrics see it through an extractor: feature vectors read in parts, or statistics of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptqbench.errors import CellFailedError
from ptqbench.evaluate.chunks import Chunks, recut
from ptqbench.evaluate.moments import Gaussian, Moments, checked, require_rows

ROW_BUDGET = 256 * 2**20
"""Bytes of feature vectors that are gathered at one time when a set is dealt into blocks."""

Keep = Callable[[str, Callable[[], Tensor]], Tensor]
"""Gives what a set has under a name: makes it where nobody has yet."""


def keep_nothing(_: str, make: Callable[[], Tensor]) -> Tensor:
    """For a set that one comparison looks at once."""
    return make()


POOL = "pool"
"""The standard output, which every extractor has."""
SPATIAL = "spatial"
"""Features that keep positions; Inception's are those of sFID."""
PROBABILITIES = "probabilities"
"""Class probabilities, rows that sum to 1."""


@dataclass(frozen=True)
class FeatureInfo:
    """What is known about an extractor before it computes: its name, and the width of each output by name.

    `inception` says that these are the published Inception features, so that numbers on them may carry the names FID,
    sFID, KID and IS alone; all others carry the extractor's name.
    """

    name: str
    outputs: Mapping[str, int]
    inception: bool = False


class FeatureSet:
    """One output of an extractor for one set of images: (N, D) in the order of image ids, read in parts.

    A reference may bring its mean and covariance ready-made (`statistics`), with feature vectors of fewer images or of none;
    those statistics are then what Frechet distances use. What is costly to derive from a set that many others are compared
    with goes through `keep`.
    """

    def __init__(self, parts: Chunks | None, width: int, statistics: Gaussian | None = None, keep: Keep = keep_nothing) -> None:
        self._parts, self.width, self._statistics, self.keep = parts, width, statistics, keep

    @classmethod
    def of(cls, rows: Tensor) -> FeatureSet:
        """Features (N, D) that are in memory already. Raises `ValueError` for another shape."""
        if rows.ndim != 2:
            raise ValueError(f"features {tuple(rows.shape)} are not (N, D)")
        return cls(Chunks.of(rows), rows.shape[1])

    def __len__(self) -> int:
        """Images whose feature vectors are there."""
        return len(self._parts) if self._parts is not None else 0

    def require_images(self) -> int:
        """The number of images. Raises `CellFailedError` where only statistics are known."""
        return len(self._chunks())

    def rows(self) -> Tensor:
        """All feature vectors at once, (N, D) float64: for small sets only. Errors as for `require_images`."""
        return torch.cat([part.double() for part in self._chunks()])

    def slices(self, size: int, start: int = 0) -> Iterator[Tensor]:
        """The feature vectors from `start` on in parts (`size`, D) float64, the last with the rest, read one after another.

        Raises `CellFailedError` where only statistics are known, and for values that are not finite.
        """
        for part in recut(self._chunks().after(start), size):
            yield checked(part, least=1)

    @cached_property
    def moments(self) -> Moments:
        """Count, mean and scatter of the feature vectors, read one part at a time; errors as in `rows`."""
        parts = self._chunks()

        def make() -> Tensor:
            found = Moments.over(part.double() for part in parts)
            return torch.cat([found.mean[None], found.scatter])

        mean, scatter = self.keep("moments", make).split([1, self.width])
        return Moments(len(parts), mean[0], scatter)

    def gaussian(self, least: int = 2) -> Gaussian:
        """Ready-made statistics, or mean and covariance of at least `least` feature vectors.

        Raises `CellFailedError` for fewer, and for values that are not finite.
        """
        if self._statistics is not None:
            return self._statistics
        require_rows(len(self._chunks()), self.width, least)
        return self.moments.gaussian()

    def blocks(self, labels: NDArray[np.int64]) -> Iterator[Tensor]:
        """The rows of block 0, 1, ... in turn, (n, D) float64; `labels` (N,) says each row's block.

        The set is read as often as keeps `ROW_BUDGET`, and not once for every block.
        """
        sizes = np.bincount(labels)
        together = max(1, ROW_BUDGET // (int(sizes.max()) * self.width * 8))
        for start in range(0, len(sizes), together):
            yield from self._gather(labels, range(start, min(start + together, len(sizes))))

    def _gather(self, labels: NDArray[np.int64], wanted: range) -> Iterator[Tensor]:
        found: dict[int, list[Tensor]] = {block: [] for block in wanted}
        start = 0
        for part in self._chunks():
            mine = labels[start : start + len(part)]
            start += len(part)
            for block in wanted:
                found[block].append(part[torch.from_numpy(mine == block)].double())
        for block in wanted:
            yield checked(torch.cat(found.pop(block)), least=1)

    def _chunks(self) -> Chunks:
        if self._parts is None:
            raise CellFailedError(
                "the reference holds no images, and no statistics that this metric could use instead",
                "name a reference with images: a folder, or an .npz file with arr_0",
            )
        return self._parts


def as_features(features: Tensor | FeatureSet) -> FeatureSet:
    """A set in memory as `FeatureSet`; others as they are."""
    return FeatureSet.of(features) if isinstance(features, Tensor) else features


def same_width(features: Tensor | FeatureSet, reference: Tensor | FeatureSet) -> tuple[FeatureSet, FeatureSet]:
    """Both sets. Raises `ValueError` if their vectors have different widths."""
    ours, theirs = as_features(features), as_features(reference)
    if ours.width != theirs.width:
        raise ValueError(f"{ours.width} features and a reference with {theirs.width} are not comparable")
    return ours, theirs
