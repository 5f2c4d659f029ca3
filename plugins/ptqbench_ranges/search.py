"""The range estimator `mse`: both extrema shrunk together until the quantization error is smallest."""

from __future__ import annotations

import torch
from torch import Tensor

from ptqbench.quant.grid import Levels
from ptqbench.roles.range import RangeEstimator
from ptqbench_ranges import MseOptions

WORKING_VALUES = 2**22
"""Values scored at once: bounds the search's working memory to a few times 16 MiB in float32."""

THINNING = 3
"""Odd, so that thinning never keeps only one column of a feature map, whose sizes are powers of two."""


class Search(RangeEstimator):
    """Candidates (1 - k shrink) * [lo, hi], k = 0, 1, ...; the smallest mean |x - q(x)|^power wins, the first on a tie.

    The extrema are those of everything observed. The error is measured on every THINNING^j-th value of each row, with
    the smallest j that leaves at most `max_values` of them: on all values of a short row, and evenly over all batches
    of a long one.
    """

    options: MseOptions

    def __init__(self, options: MseOptions, *, levels: Levels) -> None:
        super().__init__(options, levels=levels)
        self._range: tuple[Tensor, Tensor] | None = None
        self._kept: list[Tensor] = []
        self._seen = 0
        self._stride = 1

    def observe(self, values: Tensor) -> None:
        """Take one batch of values (G, n)."""
        lo, hi = values.aminmax(dim=1)
        if self._range is not None:
            lo, hi = torch.minimum(self._range[0], lo), torch.maximum(self._range[1], hi)
        self._range = (lo, hi)
        # A copy: a view would keep the whole batch alive, or change with it.
        self._kept.append(values[:, -self._seen % self._stride :: self._stride].clone())
        self._seen += values.shape[1]
        while sum(piece.shape[1] for piece in self._kept) > self.options.max_values:
            self._kept = [torch.cat(self._kept, dim=1)[:, ::THINNING].clone()]
            self._stride *= THINNING

    @torch.no_grad()
    def grid(self) -> tuple[Tensor, Tensor]:
        """Scale and zero point (G,) of the best candidates. Raises `ValueError` if nothing was observed."""
        if self._range is None:
            raise ValueError("a range was asked for before any value was observed")
        lo, hi = (extremum.unsqueeze(1) for extremum in self._range)
        factors = 1 - torch.arange(self.options.candidates, dtype=lo.dtype, device=lo.device) * self.options.shrink
        scale, zero_point = self.levels.from_range(lo * factors, hi * factors, include_zero=self.options.include_zero)
        scores = self._scores(torch.cat(self._kept, dim=1), scale, zero_point)
        best = scores.argmin(dim=1, keepdim=True)
        return scale.gather(1, best).squeeze(1), zero_point.gather(1, best).squeeze(1)

    def _scores(self, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        """Mean |x - q(x)|^power (G, K) of values x (G, n) under grids (G, K), a bounded number of grids at a time."""
        rows, candidates = scale.shape
        row = torch.arange(rows, device=x.device).repeat_interleave(candidates)
        s, z = scale.reshape(-1, 1), zero_point.reshape(-1, 1)
        size = max(1, WORKING_VALUES // x.shape[1])
        pieces = [slice(start, start + size) for start in range(0, rows * candidates, size)]
        return torch.cat([self._error(x[row[p]], s[p], z[p]) for p in pieces]).reshape(rows, candidates)

    def _error(self, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        """Mean |x - q(x)|^power (P,) of rows x (P, n); in place, because this is where the time of the search goes."""
        codes = (x / scale).round_().add_(zero_point).clamp_(self.levels.low, self.levels.high)
        return codes.sub_(zero_point).mul_(scale).sub_(x).abs_().pow_(self.options.power).mean(dim=1)
