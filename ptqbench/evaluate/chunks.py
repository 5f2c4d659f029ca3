"""Rows in parts that are read when their turn comes, so that fifty thousand images never sit in memory at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor


class Chunks:
    """A sequence of tensors that together are the rows 0..n-1 of one set; iterating reads one part at a time.

    `counts` are the rows of each part, known without reading it.
    """

    def __init__(self, counts: Sequence[int], read: Callable[[int], Tensor]) -> None:
        self.counts, self._read = tuple(counts), read

    @classmethod
    def of(cls, rows: Tensor, size: int = 0) -> Chunks:
        """A tensor as parts of `size` rows (0: in one part)."""
        parts = rows.split(size or max(1, len(rows)))
        return cls([len(part) for part in parts], lambda i: parts[i])

    def __len__(self) -> int:
        """Rows of all parts together."""
        return sum(self.counts)

    def __iter__(self) -> Iterator[Tensor]:
        return self.after(0)

    def after(self, start: int) -> Iterator[Tensor]:
        """The rows from `start` on, one part at a time; parts that end before it are not read."""
        first = 0
        for index, count in enumerate(self.counts):
            if first + count > start:
                yield self.part(index)[max(0, start - first) :]
            first += count

    def part(self, index: int) -> Tensor:
        """Read one part."""
        found = self._read(index)
        if len(found) != self.counts[index]:
            raise ValueError(f"part {index} has {len(found)} rows, {self.counts[index]} were announced")
        return found

    def first(self, count: int) -> Tensor:
        """The first `count` rows, or all if there are fewer; parts beyond them are not read."""
        found: list[Tensor] = []
        for part in self:
            found.append(part[: count - sum(map(len, found))])
            if sum(map(len, found)) >= count:
                break
        return torch.cat(found)


def regroup(parts: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The same rows in parts of at least `size` (the last may have fewer): one large product is faster than many small ones."""
    waiting: list[Tensor] = []
    for part in parts:
        waiting.append(part)
        if sum(map(len, waiting)) >= size:
            yield torch.cat(waiting)
            waiting = []
    if waiting:
        yield torch.cat(waiting)


def recut(parts: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The same rows in parts of exactly `size` (the last may have fewer), whatever the given parts are."""
    waiting: list[Tensor] = []
    for part in parts:
        rest = part
        while len(rest):
            taken = rest[: size - sum(map(len, waiting))]
            waiting.append(taken)
            rest = rest[len(taken) :]
            if sum(map(len, waiting)) == size:
                yield torch.cat(waiting)
                waiting = []
    if waiting:
        yield torch.cat(waiting)
