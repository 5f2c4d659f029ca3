"""All pairs of two sets of feature vectors, some of them at a time: memory does not grow with the sets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from ptqbench.evaluate.features import FeatureSet

TILE = 1024
"""Feature vectors on either side of a tile."""
BAND = 64 * 2**20
"""Bytes of feature vectors (float64) that stay in memory while the other set is read once."""


@dataclass(frozen=True)
class Tile:
    """Feature vectors x (n, D) and y (m, D), float64, n and m at most `TILE`; `row` and `column` are their first indices."""

    row: int
    column: int
    x: Tensor
    y: Tensor

    @property
    def rows(self) -> slice:
        """Which rows these are."""
        return slice(self.row, self.row + len(self.x))

    @property
    def columns(self) -> slice:
        """Which columns these are."""
        return slice(self.column, self.column + len(self.y))

    @property
    def on_diagonal(self) -> bool:
        """Whether entry (i, i) of the tile pairs rows of equal index; no other tile holds such a pair."""
        return self.row == self.column


def tiles(rows: FeatureSet, columns: FeatureSet | None = None) -> Iterator[Tile]:
    """Tiles that cover all pairs; without `columns`, those on and above the diagonal of all pairs within one set.

    A set is read once for each `BAND` of rows. Raises `CellFailedError` for values that are not finite.
    """
    band = max(1, BAND // (8 * rows.width * TILE)) * TILE
    first = 0
    for block in rows.slices(band):
        column = first if columns is None else 0
        for y in (columns or rows).slices(TILE, start=column):
            for offset in range(0, len(block), TILE):
                tile = Tile(first + offset, column, block[offset : offset + TILE], y)
                if columns is not None or tile.column >= tile.row:
                    yield tile
            column += len(y)
        first += len(block)
