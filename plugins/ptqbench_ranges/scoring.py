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
"""How many times fewer values each thinning leaves. Odd, so that it never keeps only one column of a feature map, whose sizes
are powers of two."""

MIXED = 1 + 5**0.5
"""The first distance between kept values of rows whose period THINNING divides, as that of tokens of 1152 channels: a whole
number would keep the same few channels of every token. Multiples of an irrational one meet each equally often (Weyl 1916)."""


class Thinned:
    """Values of rows that come in batches (G, n): all of each row, or those at the places floor(k d), k = 0, 1, ..., with the
    smallest distance d that leaves at most `limit` of them: THINNING^j, or, where THINNING divides the first batch's period,
    MIXED * THINNING^j. How the batches are cut does not matter."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: list[Tensor] = []
        self._seen, self._first, self._distance = 0, 0.0, 1.0

    def add(self, values: Tensor, period: int = 1) -> None:
        """Take one batch of values (G, n) with this `RangeEstimator.period`."""
        self._first = self._first or (MIXED if period % THINNING == 0 else float(THINNING))
        start, self._seen = self._seen, self._seen + values.shape[1]
        # A copy: a view would keep the whole batch alive, or change with it.
        self._kept.append(self._chosen(start, values))
        while sum(piece.shape[1] for piece in self._kept) > self.limit:
            self._thin()

    def values(self) -> Tensor:
        """What is left, (G, at most `limit`)."""
        return torch.cat(self._kept, dim=1)

    def _thin(self) -> None:
        found = self.values()
        if self._distance == 1:
            self._distance = self._first
            self._kept = [self._chosen(0, found)]
        else:
            self._distance *= THINNING
            self._kept = [found[:, ::THINNING].clone()]

    def _chosen(self, start: int, values: Tensor) -> Tensor:
        """A copy of what is kept of values (G, n), the first of which is number `start`."""
        d = self._distance
        if d.is_integer():
            # Much faster than places one by one.
            return values[:, -start % int(d) :: int(d)].clone()
        count = values.shape[1]
        # On the CPU, since not every accelerator has numbers that are exact enough.
        k = torch.arange(int(start / d), int((start + count) / d) + 2, dtype=torch.float64, device="cpu")
        places = (k * d).floor().to(torch.int64) - start
        return values[:, places[(places >= 0) & (places < count)].to(values.device)]


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
