"""The kernel distance (KID) between two sets of feature vectors, in float64, summed over tiles of the kernel matrix.

It comes with what a delete-a-block interval needs (`ptqbench.evaluate.intervals`): the kernel is summed block by block, and
what is left out is then only subtracted.

A set that is *paired* with its reference was made from the same noise: row i of both belongs to one noise id. A left-out
block then leaves both sets, and the pairs (i, i), which are not independent, do not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptqbench.evaluate.features import FeatureSet, as_features, same_width
from ptqbench.evaluate.moments import require_rows
from ptqbench.evaluate.tiles import tiles

Rows = Tensor | FeatureSet


def kernel_distance(features: Rows, reference: Rows, *, paired: bool = False) -> float:
    """Unbiased squared maximum mean discrepancy of features (N, D) and (M, D) under the kernel (x.y / D + 1)^3.

    Unbiased means that it may come out below 0 (Binkowski et al., arXiv:1801.01401, section 3). Raises `CellFailedError`
    for fewer than 2 rows, and for values that are not finite.
    """
    return kernel_distance_blocks(features, reference, _one_block(len(features)), paired=paired)[0]


def kernel_distance_blocks(
    features: Rows, reference: Rows, blocks: NDArray[np.int64], *, paired: bool = False
) -> tuple[float, list[float]]:
    """The kernel distance, and the distance with each block of images left out (empty when there is one block).

    `blocks` (N,) labels rows of `features` from 0. Feature vectors are read in parts as often as `tiles` says, so memory
    grows with neither N nor M. Errors as for `kernel_distance`; with several blocks 3 rows are needed.
    """
    count = int(blocks.max()) + 1
    x, y = same_width(features, reference)
    for z in (x, y):
        # Two rows make the one pair that a mean needs; with a block left out, three.
        require_rows(z.require_images(), z.width, least=2 if count == 1 else 3)
    if paired and len(x) != len(y):
        raise ValueError(f"{len(x)} images cannot be paired with {len(y)}")
    mine = _one_hot(blocks, count)
    other = mine if paired else _one_hot(_one_block(len(y)), 1)
    xx, yy = _BlockSums.within(x, mine), _BlockSums.within(y, other)
    xy = _BlockSums.between(x, y, mine, other, skip_diagonal=paired)

    def distance(left_out: int | None) -> float:
        theirs = left_out if paired else None
        return xx.mean(left_out, left_out) + yy.mean(theirs, theirs) - 2.0 * xy.mean(left_out, theirs)

    return distance(None), [distance(block) for block in range(count)] if count > 1 else []


def kernel_distance_subsets(
    features: Rows, reference: Rows, blocks: NDArray[np.int64], *, paired: bool = False
) -> Iterator[float]:
    """The kernel distance of each block of images alone: to the whole reference, or to the same block of it if paired.

    `blocks` (N,) labels rows of `features` from 0; errors as for `kernel_distance`.
    """
    x, y = same_width(features, reference)
    if paired:
        for mine, other in zip(x.blocks(blocks), y.blocks(blocks), strict=True):
            yield kernel_distance(mine, other, paired=True)
        return
    require_rows(y.require_images(), y.width, least=2)
    all_of_it = _one_hot(_one_block(len(y)), 1)
    yy = _BlockSums.within(y, all_of_it).mean(None, None)
    for ours in map(as_features, x.blocks(blocks)):
        require_rows(len(ours), ours.width, least=2)
        whole = _one_hot(_one_block(len(ours)), 1)
        xx, xy = _BlockSums.within(ours, whole), _BlockSums.between(ours, y, whole, all_of_it, skip_diagonal=False)
        yield xx.mean(None, None) + yy - 2.0 * xy.mean(None, None)


@dataclass(frozen=True)
class _BlockSums:
    """Sums of the kernel over pairs, and numbers of pairs, by the row's and the column's block: both (B1, B2)."""

    sums: Tensor
    pairs: Tensor

    @classmethod
    def within(cls, x: FeatureSet, rows: Tensor) -> _BlockSums:
        """Over all pairs of different rows of one set; each tile above the diagonal stands for its mirror image too."""
        sums = torch.zeros(len(rows), len(rows), dtype=torch.float64, device="cpu")
        for tile in tiles(x):
            kernel = _kernel(tile.x, tile.y)
            if tile.on_diagonal:
                kernel.fill_diagonal_(0.0)
            part = rows[:, tile.rows] @ kernel @ rows[:, tile.columns].T
            sums += part if tile.on_diagonal else part + part.T
        members = rows.sum(dim=1)
        return cls(sums, torch.outer(members, members) - torch.diag(members))

    @classmethod
    def between(cls, x: FeatureSet, y: FeatureSet, rows: Tensor, columns: Tensor, *, skip_diagonal: bool) -> _BlockSums:
        """Over all pairs of a row of x and a row of y, or all but the pairs (i, i)."""
        sums = torch.zeros(len(rows), len(columns), dtype=torch.float64, device="cpu")
        for tile in tiles(x, y):
            kernel = _kernel(tile.x, tile.y)
            if skip_diagonal and tile.on_diagonal:
                kernel.fill_diagonal_(0.0)
            sums += rows[:, tile.rows] @ kernel @ columns[:, tile.columns].T
        pairs = torch.outer(rows.sum(dim=1), columns.sum(dim=1))
        return cls(sums, pairs - torch.diag(rows.sum(dim=1)) if skip_diagonal else pairs)

    def mean(self, row: int | None, column: int | None) -> float:
        """Mean over all pairs without those of block `row` or of block `column`."""
        return _without(self.sums, row, column) / _without(self.pairs, row, column)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T).div_(x.shape[1]).add_(1.0).pow_(3)


def _without(table: Tensor, row: int | None, column: int | None) -> float:
    total = float(table.sum())
    if row is not None:
        total -= float(table[row].sum())
    if column is not None:
        total -= float(table[:, column].sum())
    if row is not None and column is not None:
        total += float(table[row, column])
    return total


def _one_block(count: int) -> NDArray[np.int64]:
    return np.zeros(max(1, count), dtype=np.int64)


def _one_hot(blocks: NDArray[np.int64], count: int) -> Tensor:
    return torch.from_numpy(np.arange(count)[:, None] == blocks[None, :]).to(torch.float64)
