"""How well candidate grids represent values: what the searches minimise."""

from __future__ import annotations

import torch
from torch import Tensor

from ptqbench.quant.grid import Levels

WORKING_VALUES = 2**18
"""Values scored at once: a few times 1 MiB in float32, which stays in a processor's cache."""

ROUNDING = 1e-4
"""More than what rounding can change of a mean in single precision, as a share of it."""

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


def best_grid(x: Tensor, scale: Tensor, zero_point: Tensor, levels: Levels, power: float) -> Tensor:
    """Which of the grids (G, K) has the smallest mean |x - q(x)|^power on values x (G, n): (G, 1), the first on a tie.

    A power that is no whole number costs more than all else. Above 2, mean |e|^p >= (mean e^2)^(p / 2) (Jensen): what this
    bound shows to be worse than another grid is not looked at any further.
    """
    wanted = torch.ones_like(scale, dtype=torch.bool)
    if power > 2 and x.dtype in (torch.float32, torch.float64):
        bound = _errors(x, scale, zero_point, levels, 2.0, wanted) ** (power / 2) * (1 - ROUNDING)
        likely = torch.zeros_like(wanted).scatter_(1, bound.argmin(dim=1, keepdim=True), True)
        reached = _errors(x, scale, zero_point, levels, power, likely).amin(dim=1, keepdim=True)
        # Not-a-number is not worse: it is found as it would be without bounds.
        wanted = ~(bound > reached)
    return _errors(x, scale, zero_point, levels, power, wanted).argmin(dim=1, keepdim=True)


def _errors(x: Tensor, scale: Tensor, zero_point: Tensor, levels: Levels, power: float, wanted: Tensor) -> Tensor:
    """Mean |x - q(x)|^power (G, K) of values x (G, n) under the wanted grids (G, K), a bounded number of grids at a time; inf
    for all others."""
    row, s, z = wanted.nonzero()[:, 0], scale[wanted].unsqueeze(1), zero_point[wanted].unsqueeze(1)
    size = max(1, WORKING_VALUES // x.shape[1])
    found = [_error(x[row[p]], s[p], z[p], levels, power) for p in torch.arange(len(row), device=x.device).split(size)]
    errors = torch.cat(found)
    return torch.full_like(scale, torch.inf, dtype=errors.dtype).masked_scatter_(wanted, errors)


def _error(x: Tensor, scale: Tensor, zero_point: Tensor, levels: Levels, power: float) -> Tensor:
    """Mean |x - q(x)|^power (P,) of rows x (P, n); in place, because this is where the time of a search goes."""
    codes = (x / scale).round_().add_(zero_point).clamp_(levels.low, levels.high)
    return codes.sub_(zero_point).mul_(scale).sub_(x).abs_().pow_(power).mean(dim=1)
