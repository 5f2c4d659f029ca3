"""The orthonormal Haar transform of one level, and the loss term `haar` on its sub-bands."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ptqbench.roles.loss import LossTerm, Outcome
from ptqbench_beyond import HaarOptions

BANDS = ("ll", "lh", "hl", "hh")
EQUAL = 1 / len(BANDS)
"""The weight of each band before anything is learned."""

MAP_AXES, TOKEN_AXES = 4, 3


def haar(x: Tensor) -> dict[str, Tensor]:
    """The four sub-bands of maps (..., H, W) with even H and W, each (..., H/2, W/2).

    With a, b over c, d the four pixels of a 2x2 cell: ll = (a+b+c+d)/2, lh = (a-b+c-d)/2 (differences along a row),
    hl = (a+b-c-d)/2 (along a column), hh = (a-b-c+d)/2. Orthonormal: the squares of all bands sum to those of x.
    """
    a, b = x[..., 0::2, 0::2], x[..., 0::2, 1::2]
    c, d = x[..., 1::2, 0::2], x[..., 1::2, 1::2]
    return {"ll": (a + b + c + d) / 2, "lh": (a - b + c - d) / 2, "hl": (a + b - c - d) / 2, "hh": (a - b - c + d) / 2}


def as_maps(x: Tensor) -> Tensor | None:
    """(B, C, H, W) with even H and W: x itself, or tokens (B, N, C) in rows of sqrt(N) if that is even; else None."""
    if x.dim() == TOKEN_AXES:
        side = math.isqrt(x.shape[1])
        if side * side != x.shape[1]:
            return None
        x = x.transpose(1, 2).unflatten(2, (side, side))
    if x.dim() != MAP_AXES or x.shape[2] % 2 or x.shape[3] % 2:
        return None
    return x


class HaarError(LossTerm):
    """gamma / 4 * ||DWT_k(P) - DWT_k(Q)||^2 for each band k, in the units of the plain squared error of the output.

    The four parts therefore sum to gamma / 4 of the plain loss with exponent 2, whatever exponent a reconstruction asks
    for. A weighter that multiplies part k by 4 lambda_k gives the bands the weights lambda.
    """

    options: HaarOptions

    def losses(self, outcome: Outcome) -> Mapping[str, Tensor]:
        """The parts ll, lh, hl and hh, each (B,); none if no output is a map of even height and width."""
        if not self.options.gamma:
            return {}
        found = [bands for pair in zip(outcome.output, outcome.target, strict=True) if (bands := self._bands(*pair))]
        return {band: torch.stack([bands[band] for bands in found]).sum(0) for band in BANDS} if found else {}

    def _bands(self, output: Tensor, target: Tensor) -> dict[str, Tensor] | None:
        difference = as_maps(output - target)
        if difference is None:
            return None
        # The plain loss sums over axis 1, channels of maps but tokens of token tensors, and averages over the rest.
        factor = self.options.gamma * EQUAL / (output[0].numel() // output.shape[1])
        return {band: factor * values.square().flatten(1).sum(1) for band, values in haar(difference).items()}
