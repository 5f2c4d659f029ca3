"""The activation quantizer `tdq`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ptqbench.errors import CellFailedError
from ptqbench.plugin.component import Options
from ptqbench.quant.grid import SCALE_FLOOR, Layout, QuantSpec
from ptqbench.quant.uniform import UniformQuantizer
from ptqbench.roles.quantizer import ParamGroup
from ptqbench.roles.range import RangeEstimator
from ptqbench_tdq import TdqOptions
from ptqbench_tdq.factors import StepFactors, parameter_names


class TimeDynamicStep(UniformQuantizer):
    """s(k) = base(k) * exp(MLP(code(k))) for step group k; the zero point is fixed (arXiv:2306.02316).

    The network exists only while a unit is fitted. Afterwards the scales are a table (K, G) like any other's, so that
    inference and export know nothing of it. Raises `CellFailedError` when built for a single step group.
    """

    options: TdqOptions

    def __init__(
        self, options: TdqOptions, *, spec: QuantSpec, layout: Layout, estimator: Callable[[], RangeEstimator]
    ) -> None:
        super().__init__(options, spec=spec, layout=layout, estimator=estimator)
        if spec.steps == 1:
            raise CellFailedError(
                "tdq computes a step size for each sampling step, and here one is shared by all (steps = 1)",
                'set activations.steps = "each" or to a number of step groups, or use the quantizer "lsq"',
            )

    def freeze(self) -> None:
        """Take the observed grids; a shared base spans those of all observed steps, and needs not every step observed."""
        seen = [estimator for estimator, observed in zip(self._estimators, self._observed, strict=True) if observed]
        if self.options.base == "each" or not seen:
            super().freeze()
            return
        grids = [estimator.grid() for estimator in seen]
        scale, zero_point = self._span(torch.stack([g[0] for g in grids]), torch.stack([g[1] for g in grids]))
        steps = self.spec.steps
        self._set(scale.repeat(steps, 1), zero_point.repeat(steps, 1))
        self._estimators = []

    def _span(self, scale: Tensor, zero_point: Tensor) -> tuple[Tensor, Tensor]:
        """The grid (G,) that covers all of several grids (n, G)."""
        levels = self.spec.levels
        if levels.symmetric:
            return scale.amax(0), zero_point[0]
        low, high = ((levels.low - zero_point) * scale).amin(0), ((levels.high - zero_point) * scale).amax(0)
        return levels.from_range(low, high, include_zero=False)

    @classmethod
    def offers(cls, options: Options) -> frozenset[str]:
        return frozenset({"step"})

    def learnable(self) -> Sequence[ParamGroup]:
        return (ParamGroup(tuple(f"factors.{name}" for name in parameter_names(self.options.layers)), "step"),)

    def begin_learning(self, x: Tensor | None) -> None:
        """Build the network. Raises `CellFailedError` before `freeze`."""
        if not self.frozen:
            raise CellFailedError("tdq cannot learn step sizes before its range was found", "observe and freeze it first")
        if not self.learning:
            o = self.options
            steps, rows = self.scale.shape
            made = StepFactors(steps, rows, frequencies=o.frequencies, hidden=o.hidden, layers=o.layers)
            self.factors = made.to(self.scale)
        super().begin_learning(x)

    def harden(self) -> None:
        """Write the learned step sizes into the table and drop the network."""
        if self.learning:
            self.scale = self._table().detach().clone()
            del self.factors
        super().harden()

    def export(self, x: Tensor | None = None) -> dict[str, Tensor]:
        """The table of step sizes (K, G) as learned so far, and the zero points."""
        return {**super().export(x), "scale": self._table().detach().clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.harden()
        super().restore(state)

    def _table(self) -> Tensor:
        return (self.scale * self.factors()).clamp_min(SCALE_FLOOR) if self.learning else self.scale

    def _grid(self, x: Tensor, group: Tensor | None) -> tuple[Tensor, Tensor]:
        if not self.learning:
            return super()._grid(x, group)
        spread = self.layout.spread
        return spread(self._table(), x, group), spread(self.zero_point, x, group)
