"""How well candidate grids represent values: what the searches minimise."""

from __future__ import annotations

import torch
from torch import Tensor

from ptqbench.quant.grid import Levels

WORKING_VALUES = 2**22
"""Values scored at once: bounds a search's working memory to a few times 16 MiB in float32."""

THINNING = 3
"""Odd, so that thinning never keeps only one column of a feature map, whose sizes are powers of two."""


class Thinned:
    """Values of rows that come in batches (G, n): every THINNING^j-th of each row, with the smallest j that leaves at most
    `limit` of them. How the batches are cut does not matter."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: list[Tensor] = []
        self._seen, self._stride = 0, 1

    def add(self, values: Tensor) -> None:
        """Take one batch of values (G, n)."""
        # A copy: a view would keep the whole batch alive, or change with it.
        self._kept.append(values[:, -self._seen % self._stride :: self._stride].clone())
        self._seen += values.shape[1]
        while sum(piece.shape[1] for piece in self._kept) > self.limit:
            self._kept = [self.values()[:, ::THINNING].clone()]
            self._stride *= THINNING

    def values(self) -> Tensor:
        """What is left, (G, at most `limit`)."""
        return torch.cat(self._kept, dim=1)


def grid_errors(x: Tensor, scale: Tensor, zero_point: Tensor, levels: Levels, power: float) -> Tensor:
    """Mean |x - q(x)|^power (G, K) of values x (G, n) under grids (G, K), a bounded number of grids at a time."""
    rows, candidates = scale.shape
    row = torch.arange(rows, device=x.device).repeat_interleave(candidates)
    s, z = scale.reshape(-1, 1), zero_point.reshape(-1, 1)
    size = max(1, WORKING_VALUES // x.shape[1])
    pieces = [slice(start, start + size) for start in range(0, rows * candidates, size)]
    return torch.cat([_error(x[row[p]], s[p], z[p], levels, power) for p in pieces]).reshape(rows, candidates)


def _error(x: Tensor, scale: Tensor, zero_point: Tensor, levels: Levels, power: float) -> Tensor:
    """Mean |x - q(x)|^power (P,) of rows x (P, n); in place, because this is where the time of a search goes."""
    codes = (x / scale).round_().add_(zero_point).clamp_(levels.low, levels.high)
    return codes.sub_(zero_point).mul_(scale).sub_(x).abs_().pow_(power).mean(dim=1)
