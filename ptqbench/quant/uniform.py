"""The uniform affine quantizer that first-party quantizers build on: ranges from an estimator, then a fixed grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ptqbench.errors import CellFailedError
from ptqbench.plugin.component import Options
from ptqbench.quant.grid import Layout, QuantSpec, codes_of, fake_quantize, group_of_rows
from ptqbench.roles.quantizer import Quantizer
from ptqbench.roles.range import RangeEstimator


class UniformQuantizer(Quantizer):
    """Scale and zero point (K, G) for K step groups and G rows, from one range estimator per step group."""

    scale: Tensor
    zero_point: Tensor

    def __init__(self, options: Options, *, spec: QuantSpec, layout: Layout, estimator: Callable[[], RangeEstimator]) -> None:
        super().__init__(options, spec=spec, layout=layout, estimator=estimator)
        self._estimators = [self.estimator() for _ in range(self.spec.steps)]
        self._observed = [False] * self.spec.steps
        self._open = [0] * self.spec.steps
        self.register_buffer("scale", torch.empty(0, dtype=torch.float32, device="cpu"))
        self.register_buffer("zero_point", torch.empty(0, dtype=torch.float32, device="cpu"))

    @property
    def frozen(self) -> bool:
        return self.scale.numel() > 0

    def observe(self, x: Tensor, group: Tensor | None = None) -> None:
        x = x.detach()
        if group is None:
            if self.spec.steps > 1:
                raise ValueError("a quantizer with parameters per step observed values without a step")
            self._show(0, x)
            self._observed[0] = True
            return
        rows = group_of_rows(group, x)
        for slot in sorted(set(rows.tolist())):
            self._see(slot, x if self.spec.steps == 1 else x[rows == slot], len(x) // len(group))

    def _see(self, slot: int, x: Tensor, repeats: int = 1) -> None:
        """Show a slot's estimator the rows x, `repeats` for each sample, cut where its updates end."""
        estimator = self._estimators[slot]
        while len(x):
            # Samples, since a layer that is called several times in a pass may see another number of rows of each.
            room = None if estimator.update is None else (estimator.update - self._open[slot]) * repeats
            piece = x[:room]
            x = x[len(piece) :]
            self._show(slot, piece)
            self._open[slot] += len(piece) // repeats
            if self._open[slot] == estimator.update:
                estimator.end_update()
                self._open[slot] = 0
        self._observed[slot] = True

    def _show(self, slot: int, x: Tensor) -> None:
        estimator = self._estimators[slot]
        estimator.period = self.layout.period(x)
        estimator.observe(self.layout.rows(x))

    def freeze(self) -> None:
        missing = [slot for slot, seen in enumerate(self._observed) if not seen]
        if missing:
            raise CellFailedError(
                f"no values were observed for {'step group ' + str(missing) if self.spec.steps > 1 else 'this site'}",
                "calibrate on samples of every step group, or use fewer groups",
            )
        grids = [estimator.grid() for estimator in self._estimators]
        self._set(torch.stack([g[0] for g in grids]), torch.stack([g[1] for g in grids]))
        self._estimators = []

    def _set(self, scale: Tensor, zero_point: Tensor) -> None:
        """Install the grid; subclasses that learn the scale override this."""
        self.scale, self.zero_point = scale, zero_point

    def _grid(self, x: Tensor, group: Tensor | None) -> tuple[Tensor, Tensor]:
        if not self.frozen:
            raise CellFailedError("a quantizer ran before its range was found", "observe and freeze it first")
        spread = self.layout.spread
        return spread(self.scale, x, group), spread(self.zero_point, x, group)

    def forward(self, x: Tensor, group: Tensor | None = None) -> Tensor:
        scale, zero_point = self._grid(x, group)
        return fake_quantize(x, scale, zero_point, self.spec.levels)

    def export(self, x: Tensor | None = None) -> dict[str, Tensor]:
        state = {"scale": self.scale.detach().clone(), "zero_point": self.zero_point.clone()}
        if x is not None:
            state["codes"] = self.codes(x)
        return state

    def codes(self, x: Tensor) -> Tensor:
        """Integer codes of x under the finished grid."""
        scale, zero_point = self._grid(x, None)
        return codes_of(x, scale.detach(), zero_point, self.spec.levels)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._set(state["scale"], state["zero_point"])
        self._estimators = []
        self.harden()
