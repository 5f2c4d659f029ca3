"""What the units of one phase are fitted on: their inputs and full-precision outputs over the calibration set."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ptqbench.engine.capture import Recording, groups_within, record
from ptqbench.engine.context import CAPTURE_BUDGET
from ptqbench.engine.losses import UnitLoss
from ptqbench.engine.unit_data import UnitData
from ptqbench.errors import CellFailedError
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import UnitPlan
from ptqbench.roles.plan import Partitioner
from ptqbench.roles.reconstruction import Phase

if TYPE_CHECKING:
    from ptqbench.engine.quantize import CellQuantizer

Recorded = tuple[Recording, Recording]
"""Inputs and outputs."""


class UnitCapture:
    """Records units one after the other; full precision is recorded for as many units at a time as memory allows."""

    def __init__(
        self,
        cell: CellQuantizer,
        q: QuantizedDenoiser,
        phase: Phase,
        loss: UnitLoss,
        partitioner: Partitioner,
        units: list[UnitPlan],
    ) -> None:
        self.cell, self.q, self.loss, self.partitioner, self.units = cell, q, loss, partitioner, units
        self.quantized = phase.inputs != "full-precision"
        # Full-precision inputs are wanted as such, to be mixed in, or to run the full-precision unit on.
        self.full = phase.inputs != "quantized" or loss.reads_layers
        self.calib = cell.calibration[0]
        self.ready: dict[str, Recorded] = {}
        self.groups: list[list[str]] = []

    def data(self, unit: UnitPlan, position: int) -> UnitData:
        """The samples of one unit."""
        split = self.cell.split
        full, targets = self._synthetic(unit) if unit.synthetic else self._plain(unit, position)
        if self.quantized:
            module = self.q.module.get_submodule(unit.module)
            inputs = self._record(self.q, {unit.name: module}, inputs=True, outputs=False)[unit.name][0]
        return UnitData(
            inputs if self.quantized else full,
            targets,
            self.calib.step,
            split.train,
            split.validation,
            split.group,
            full_inputs=full if self.quantized and self.full else None,
            sensitivity=self._sensitivity(unit) if self.loss.reads_sensitivity else None,
        )

    def _plain(self, unit: UnitPlan, position: int) -> Recorded:
        if unit.name not in self.ready:
            self._fill(position)
        return self.ready.pop(unit.name)

    def _synthetic(self, unit: UnitPlan) -> Recorded:
        """Inputs of the module that the unit starts at, and the outputs that the full-precision unit computes from them."""
        module = self.cell.ctx.model.denoiser.get_submodule(unit.module)
        inputs = self._record(None, {unit.name: module}, inputs=True, outputs=False)[unit.name][0]
        original = self.partitioner.assemble(unit, self.cell.ctx.model.denoiser)
        outputs, total = Recording(), len(self.calib)
        with torch.no_grad():
            for piece in torch.arange(total).split(self.batch):
                args, kwargs = inputs.take(piece, self.cell.ctx.device)
                found = original(*args, **kwargs)
                span = range(int(piece[0]), int(piece[-1]) + 1)
                outputs.add(found if isinstance(found, tuple) else (found,), span, total)
        return inputs, outputs

    def _fill(self, position: int) -> None:
        """Record full precision for the unit at `position` and for as many following ones as the memory budget allows."""
        later = [unit for unit in self.units[position:] if not unit.synthetic]
        if not self.groups:
            self.groups = groups_within(self._sizes(later), CAPTURE_BUDGET)
        names = next(group for group in self.groups if self.units[position].name in group)
        modules = {u.name: self._original(u) for u in later if u.name in names}
        self.ready = self._record(None, modules, inputs=self.full, outputs=True)

    def _sizes(self, units: list[UnitPlan]) -> dict[str, int]:
        """Bytes that each unit's recording will take, from a pass over one sample."""
        modules = {u.name: self._original(u) for u in units}
        run = lambda piece: self._run(None, piece)  # noqa: E731
        seen = record(run, modules, total=1, batch=1, inputs=self.full, outputs=True)
        return {name: len(self.calib) * (a.bytes_per_sample + b.bytes_per_sample) for name, (a, b) in seen.items()}

    @property
    def batch(self) -> int:
        return self.cell.ctx.experiment.calibration.batch

    def _record(
        self, q: QuantizedDenoiser | None, modules: dict[str, nn.Module], *, inputs: bool, outputs: bool
    ) -> dict[str, Recorded]:
        run = lambda piece: self._run(q, piece)  # noqa: E731
        return record(run, modules, total=len(self.calib), batch=self.batch, inputs=inputs, outputs=outputs)

    def _run(self, q: QuantizedDenoiser | None, piece: range) -> Tensor:
        return self.cell.predict(q, self.calib, torch.arange(piece.start, piece.stop))

    def _original(self, unit: UnitPlan) -> nn.Module:
        return self.cell.ctx.model.denoiser.get_submodule(unit.module)

    @cached_property
    def _predictions(self) -> Tensor:
        """Full-precision noise predictions of the calibration set (N, C, H, W)."""
        pieces = torch.arange(len(self.calib)).split(self.batch)
        with torch.no_grad():
            return torch.cat([self.cell.predict(None, self.calib, piece).cpu() for piece in pieces])

    def _sensitivity(self, unit: UnitPlan) -> Recording:
        """Gradients of the quantized network's squared output error at the unit's outputs, root mean square 1."""
        if unit.synthetic:
            raise CellFailedError(
                f"the unit {unit.name!r} is synthetic: the network never computes it as a whole, so its loss cannot be "
                "weighed by the network's sensitivity",
                "use another loss term, or a partitioner without synthetic units",
            )
        found, module = Recording(), self.q.module.get_submodule(unit.module)
        for piece in torch.arange(len(self.calib)).split(self.batch):
            span = range(int(piece[0]), int(piece[-1]) + 1)
            found.add(self._slopes(module, piece), span, len(self.calib))
        squares = sum(float(leaf.double().square().sum()) for leaf in found.tensors)
        norm = (squares / sum(leaf.numel() for leaf in found.tensors)) ** 0.5
        for leaf in found.tensors:
            leaf.div_(norm if norm > 0 else 1.0)
        return found

    def _slopes(self, module: nn.Module, piece: Tensor) -> tuple[Tensor, ...]:
        """Gradients at the outputs of `module` for one batch of samples."""
        leaves: list[Tensor] = []
        handle = module.register_forward_hook(_cut(leaves))
        try:
            with torch.enable_grad():
                error = self.cell.predict(self.q, self.calib, piece) - self._predictions[piece].to(self.cell.ctx.device)
                return torch.autograd.grad(error.square().sum(), leaves)
        finally:
            handle.remove()


def _cut(leaves: list[Tensor]) -> Callable[..., Any]:
    """A hook that puts fresh leaves in place of a module's outputs, and notes them."""

    def hook(_module: nn.Module, _args: Any, out: Any) -> Any:
        fresh = [o.detach().requires_grad_() for o in (out if isinstance(out, tuple) else (out,))]
        leaves.extend(fresh)
        return tuple(fresh) if isinstance(out, tuple) else fresh[0]

    return hook
