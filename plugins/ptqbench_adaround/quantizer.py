"""The weight quantizer `adaround`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ptqbench.errors import CellFailedError
from ptqbench.plugin.component import Options
from ptqbench.quant.grid import Layout, QuantSpec
from ptqbench.quant.uniform import UniformQuantizer
from ptqbench.roles.quantizer import ParamGroup
from ptqbench.roles.range import RangeEstimator
from ptqbench_adaround import AdaRoundOptions
from ptqbench_adaround.rounding import Regulariser, SoftWeight, alpha_of, beta_at, line, rounding_regulariser, soft_weight


class AdaRound(UniformQuantizer):
    """Each weight rounds down or up by a learned variable; the grid keeps its first scale and zero point.

    Rounds to nearest until learning begins. While learning, a weight is s (clamp(floor(w / s) + h(alpha) + z) - z)
    and the gradient reaches `alpha` through h alone (AdaRound). `harden` turns alpha >= 0 into codes and
    drops alpha.
    """

    options: AdaRoundOptions
    alpha: nn.Parameter | None
    floor: Tensor | None
    offset: Tensor | None
    slope: Tensor | None
    learned: Tensor | None

    def __init__(self, options: Options, *, spec: QuantSpec, layout: Layout, estimator: Callable[[], RangeEstimator]) -> None:
        super().__init__(options, spec=spec, layout=layout, estimator=estimator)
        self.register_parameter("alpha", None)
        for name in ("floor", "offset", "slope"):
            self.register_buffer(name, None, persistent=False)
        self.register_buffer("learned", None)

    @classmethod
    def offers(cls, options: Options) -> frozenset[str]:
        return frozenset({"rounding"})

    def learnable(self) -> Sequence[ParamGroup]:
        return (ParamGroup(("alpha",), "rounding"),)

    def begin_learning(self, x: Tensor | None) -> None:
        """Start from the weight x itself: h(alpha) is the fraction that x / s has above its floor.

        Raises `ValueError` without a weight, `CellFailedError` before `freeze`.
        """
        if x is None:
            raise ValueError("adaround learns to round a weight and was given none")
        scale, zero_point = self._grid(x, None)
        steps = (x / scale).detach()
        self.floor = steps.floor()
        self.offset, self.slope = line(self.floor, scale, zero_point, self.spec.levels)
        self.alpha = nn.Parameter(alpha_of(steps - self.floor))
        self.learned = None
        super().begin_learning(x)

    def forward(self, x: Tensor, group: Tensor | None = None) -> Tensor:
        if self.alpha is None or self.offset is None or self.slope is None:
            return super().forward(x, group) if self.learned is None else self._dequantize(self.learned.to(x.dtype))
        weigh = SoftWeight.apply if _own(self.alpha) else soft_weight
        return weigh(self.alpha, self.offset, self.slope)

    def penalty(self, progress: float, params: Mapping[str, Tensor] | None = None) -> Tensor | None:
        """round_weight * sum(1 - |2 h - 1|^beta), a scalar; None outside learning and during the warm-up.

        `params` may replace `alpha`, keyed by attribute name.
        """
        alpha = self.alpha if params is None else params.get("alpha", self.alpha)
        options = self.options
        if alpha is None or progress < options.warmup:
            return None
        beta = beta_at(progress, options.warmup, options.beta_start, options.beta_end)
        if _own(alpha):
            return Regulariser.apply(alpha, beta, options.round_weight)
        return options.round_weight * rounding_regulariser(alpha, beta)

    def harden(self) -> None:
        """Fix the codes and drop the variables."""
        if self.alpha is not None:
            self.learned = self._decided()
        self._forget()
        super().harden()

    def codes(self, x: Tensor) -> Tensor:
        """Learned codes once there are any (those of alpha >= 0 while learning), else those of rounding to nearest."""
        if self.alpha is not None:
            return self._decided()
        return super().codes(x) if self.learned is None else self.learned.clone()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take scale, zero point and, where the state has them, codes."""
        self._forget()
        super().restore(state)
        self.learned = state.get("codes")

    def _forget(self) -> None:
        self.alpha = self.floor = self.offset = self.slope = None

    @torch.no_grad()
    def _decided(self) -> Tensor:
        """Codes with every variable rounded: up where alpha >= 0."""
        if self.alpha is None or self.floor is None:
            raise CellFailedError("adaround has no rounding variables", "begin learning first")
        _, zero_point = self._grid(self.floor, None)
        steps = self.floor + (self.alpha >= 0)
        return self.spec.levels.codes(steps + zero_point)

    def _dequantize(self, codes: Tensor) -> Tensor:
        scale, zero_point = self._grid(codes, None)
        return (codes - zero_point) * scale


def _own(alpha: Tensor) -> bool:
    """Whether these are the variables that the optimiser moves, and none that stand in for them."""
    return isinstance(alpha, nn.Parameter)
