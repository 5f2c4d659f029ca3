"""How well candidate grids represent values: what the searches minimise."""

from __future__ import annotations

import torch
from torch import Tensor

from ptqbench.quant.grid import Levels

WORKING_VALUES = 2**22
"""Values scored at once: bounds a search's working memory to a few times 16 MiB in float32."""

THINNING = 3
"""Odd, so that thinning never keeps only one column of a feature map, whose sizes are powers of two."""


def thinned(x: Tensor, limit: int) -> Tensor:
    """Every THINNING^j-th value of each row of x (G, n), with the smallest j that leaves at most `limit` of them."""
    stride = 1
    while -(-x.shape[1] // stride) > limit:
        stride *= THINNING
    return x[:, ::stride]


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
