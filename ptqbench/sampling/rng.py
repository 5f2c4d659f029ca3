"""Named random streams: adding a plugin never shifts another's draws, and image i's noise depends on (seed, i) alone.

All streams are CPU generators, so that what they give does not depend on the device, the batch size or the number of
workers. (Masks of what a phase mixes or drops are drawn on the device, from a mini-batch's seed that came from a stream.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from ptqbench.boundary.call import keep_from_methods

EVALUATION = ("images", "probe")
"""Blocks of noise that metrics rest on: generated images, held-out trajectories."""


def stream(seed: int, name: str, *scope: object) -> Generator:
    """A generator that is a function of the seed, a name such as "weighter/gacq", and a scope such as the unit's name.

    Torch's generator on the CPU takes 32 bits of a seed: among 50 000 streams some two are the same with a chance of 25 %.

    Raises `PluginFault` for noise of the evaluation where a method's own code asks for it.
    """
    if name in EVALUATION:
        keep_from_methods(f"the noise of {name}")
    text = "\x1f".join([str(seed), name, *map(str, scope)])
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    return Generator("cpu").manual_seed(number & (2**63 - 1))


def normal(shape: Sequence[int], rng: Generator) -> Tensor:
    """Standard normal numbers, float32, from a stream."""
    return torch.randn(*shape, generator=rng, dtype=torch.float32, device="cpu")


def permutation(n: int, rng: Generator) -> Tensor:
    """0..n-1 in random order, (n,) int64, from a stream."""
    return torch.randperm(n, generator=rng, dtype=torch.int64, device="cpu")


class NoiseSource:
    """Noise of a block of images: each id has its own stream, read once for x_T and once per stochastic step."""

    def __init__(self, seed: int, block: str, ids: Sequence[int], shape: tuple[int, ...]) -> None:
        self._streams = [stream(seed, block, i) for i in ids]
        self._shape = shape

    def draw(self) -> Tensor:
        """Standard normal noise (len(ids), *shape), the next draw of every id's stream."""
        return torch.stack([normal(self._shape, g) for g in self._streams])
