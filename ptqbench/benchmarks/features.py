"""What measuring large sets takes: random images through an extractor, and random feature vectors in all pairs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ptqbench.evaluate.chunks import Chunks
from ptqbench.evaluate.features import FeatureSet
from ptqbench.evaluate.intervals import partition
from ptqbench.evaluate.kernels import kernel_distance_blocks
from ptqbench.evaluate.manifolds import ball_radii, coverage
from ptqbench.evaluate.moments import Moments
from ptqbench.plugin.component import NoOptions
from ptqbench.roles.features import POOL, FeatureExtractor
from ptqbench.sampling.rng import stream
from ptqbench.stage.memory import peak_memory_mib, reset_peak_memory

SHAPE = (3, 32, 32)
PART = 256
QUARTERS = 4
NEIGHBOURS = 3


class RandomProjection(FeatureExtractor):
    """A fixed random projection of the pixels to `width` numbers, and a nonlinearity."""

    def __init__(self, width: int) -> None:
        super().__init__(NoOptions())
        self.width, self._matrix = width, torch.empty(0)

    def fingerprint(self) -> str:
        """The width says everything."""
        return f"random projection to {self.width}"

    def outputs(self) -> Mapping[str, int]:
        """ "pool" alone."""
        return {POOL: self.width}

    def prepare(self, device: torch.device) -> None:
        """Draw the projection."""
        pixels = SHAPE[0] * SHAPE[1] * SHAPE[2]
        self._matrix = torch.randn(pixels, self.width, generator=stream(0, "bench/projection")) / pixels**0.5

    def extract(self, images: Tensor) -> Mapping[str, Tensor]:
        """Features (N, width) float32 of images (N, 3, 32, 32) uint8."""
        return {POOL: (images.flatten(1).float() / 127.5 - 1.0).mm(self._matrix).relu()}


@dataclass(frozen=True)
class Progress:
    """Images measured, the seconds that they took, and the highest resident memory in MiB."""

    images: int
    seconds: float
    peak_mib: float


def random_images(count: int) -> Chunks:
    """Images (count, 3, 32, 32) uint8, each part drawn when its turn comes."""
    counts = [min(PART, count - start) for start in range(0, count, PART)]

    def draw(part: int) -> Tensor:
        return torch.randint(0, 256, (counts[part], *SHAPE), generator=stream(0, "bench/images", part), dtype=torch.uint8)

    return Chunks(counts, draw)


def moments(extractor: FeatureExtractor, images: Chunks) -> Moments:
    """Count, mean and scatter of the features of all images, read one part at a time."""
    return Moments.over(extractor.extract(part)[POOL].double() for part in images)


def progress(count: int, width: int) -> Iterator[Progress]:
    """Stream `count` images through a projection to `width` features; where one stands after each quarter of them."""
    extractor = RandomProjection(width)
    extractor.prepare(torch.device("cpu"))
    images = random_images(count)
    reset_peak_memory()
    start, found, first = time.perf_counter(), None, 0
    for quarter in range(1, QUARTERS + 1):
        last = len(images.counts) * quarter // QUARTERS
        if last == first:
            continue
        offset = first
        part = Chunks(images.counts[first:last], lambda i, offset=offset: images.part(offset + i))  # type: ignore[misc]
        more = moments(extractor, part)
        found = more if found is None else found.plus(more)
        first = last
        yield Progress(found.count, time.perf_counter() - start, peak_memory_mib())


def random_features(count: int, width: int, name: str) -> FeatureSet:
    """Feature vectors (count, width), each part drawn when its turn comes, as it would be read from the cache."""
    counts = [min(PART, count - start) for start in range(0, count, PART)]

    def draw(part: int) -> Tensor:
        return torch.randn(counts[part], width, generator=stream(0, f"bench/{name}", part))

    return FeatureSet(Chunks(counts, draw), width)


def kid(ours: FeatureSet, theirs: FeatureSet) -> None:
    """The kernel distance with its left-out blocks."""
    kernel_distance_blocks(ours, theirs, partition(len(ours)))


def precision_recall(ours: FeatureSet, theirs: FeatureSet) -> None:
    """Both sets' manifolds, and which rows lie in the other's."""
    coverage(ours, theirs, ball_radii(ours, NEIGHBOURS), ball_radii(theirs, NEIGHBOURS))


ALL_PAIRS: dict[str, Callable[[FeatureSet, FeatureSet], None]] = {"kid": kid, "precision-recall": precision_recall}


def pairwise(what: str, count: int, width: int) -> Iterator[Progress]:
    """Measure two sets of a quarter, a half ... of `count` feature vectors each, every time from the start."""
    for quarter in range(1, QUARTERS + 1):
        size = count * quarter // QUARTERS
        sets = [random_features(size, width, name) for name in ("ours", "theirs")]
        reset_peak_memory()
        start = time.perf_counter()
        ALL_PAIRS[what](*sets)
        yield Progress(size, time.perf_counter() - start, peak_memory_mib())
