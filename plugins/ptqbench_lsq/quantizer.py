"""The activation quantizer `lsq`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ptqbench.errors import CellFailedError
from ptqbench.plugin.component import Options
from ptqbench.quant.grid import SCALE_FLOOR, fake_quantize
from ptqbench.quant.uniform import UniformQuantizer
from ptqbench.roles.quantizer import ParamGroup
from ptqbench_lsq import LsqOptions


class LearnedStep(UniformQuantizer):
    """A uniform grid whose scale learns through the straight-through estimator; the zero point is fixed.

    The gradient of the scale is round(x / s) - x / s inside the grid and (level - z) where x is clipped (LSQ). What the
    optimiser moves is `log_step` (K, G) in s = scale * exp(log_step): its rate is a share of the scale, so that activations a
    thousand times as large are fitted alike, and no step of it can break the grid.
    """

    options: LsqOptions

    @classmethod
    def offers(cls, options: Options) -> frozenset[str]:
        return frozenset({"step"})

    def learnable(self) -> Sequence[ParamGroup]:
        return (ParamGroup(("log_step",), "step"),)

    def begin_learning(self, x: Tensor | None) -> None:
        """Start from the scales (K, G) as they are. Raises `CellFailedError` before `freeze`."""
        if not self.frozen:
            raise CellFailedError("lsq cannot learn a scale before its range was found", "observe and freeze it first")
        if not self.learning:
            self.log_step = nn.Parameter(torch.zeros_like(self.scale))
        super().begin_learning(x)

    def forward(self, x: Tensor, group: Tensor | None = None) -> Tensor:
        if not self.learning:
            return super().forward(x, group)
        scale, zero_point = self._grid(x, group)
        return fake_quantize(x, self._scaled_gradient(scale, x), zero_point, self.spec.levels)

    def harden(self) -> None:
        """Write what was learned into the scale."""
        if self.learning:
            self.scale = self._learned().detach().clone()
            del self.log_step
        super().harden()

    def export(self, x: Tensor | None = None) -> dict[str, Tensor]:
        """The scale as learned so far, and the zero point."""
        return {**super().export(x), "scale": self._learned().detach().clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.harden()
        super().restore(state)

    def _learned(self) -> Tensor:
        return (self.scale * self.log_step.exp()).clamp_min(SCALE_FLOOR) if self.learning else self.scale

    def _grid(self, x: Tensor, group: Tensor | None) -> tuple[Tensor, Tensor]:
        if not self.learning:
            return super()._grid(x, group)
        spread = self.layout.spread
        return spread(self._learned(), x, group), spread(self.zero_point, x, group)

    def _scaled_gradient(self, scale: Tensor, x: Tensor) -> Tensor:
        """`scale` in value; its gradient times 1 / sqrt(values that share a scale * (levels - 1)) if asked for."""
        if self.options.gradient_scale == "none":
            return scale
        sharing = x.numel() // self.scale.shape[1]
        factor = 1 / math.sqrt(max(1, sharing) * (self.spec.levels.high - self.spec.levels.low))
        return scale.detach() + (scale * factor - (scale * factor).detach())
