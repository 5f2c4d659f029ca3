"""Fitting the units of one phase in execution order, resumable unit by unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ptqbench.engine.cache import Entry
from ptqbench.engine.capture import Recording, groups_within, record
from ptqbench.engine.context import CAPTURE_BUDGET
from ptqbench.engine.fit import FitContext
from ptqbench.engine.inner import UnitData, UnitProblem, trainables
from ptqbench.engine.rng import stream
from ptqbench.errors import CellFailedError
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import UnitPlan
from ptqbench.roles.reconstruction import Phase

if TYPE_CHECKING:
    from ptqbench.engine.quantize import CellQuantizer


class UnitFitter:
    """Captures, fits, hardens and stores one unit after the other."""

    def __init__(self, cell: CellQuantizer, q: QuantizedDenoiser, phase: Phase, entry: Entry, units: list[UnitPlan]) -> None:
        self.cell, self.q, self.phase, self.entry, self.units = cell, q, phase, entry, units
        self.calib = cell.calibration[0]
        self.targets: dict[str, tuple[Recording, Recording]] = {}
        self.groups: list[list[str]] = []

    def run(self) -> dict[str, Any]:
        """Fit every unit that has something to learn. Raises `CellFailedError` if none has."""
        reports: dict[str, Any] = {}
        for i, unit in enumerate(self.units):
            part = f"unit-{i:03d}"
            if not self.entry.has(f"{part}.json"):
                self._store(unit, part, self._fit(unit, i))
            # Fresh and resumed runs both go on from what was stored, so that they cannot differ.
            self.q.restore(self.cell.ctx.to_device(self.entry.load_tensors(f"{part}.safetensors")))
            reports[unit.name] = self.entry.load_json(f"{part}.json")
        if not any(report["iterations"] for report in reports.values()):
            raise CellFailedError(
                f"phase {self.phase.name!r} of {self.cell.method.reconstruction.name!r} found nothing to learn",
                'choose quantizers with trainables, or reconstruction = "none"',
            )
        return reports

    def _fit(self, unit: UnitPlan, position: int) -> dict[str, Any]:
        layers = [self.q.layers[name] for name in unit.layers]
        module = self.q.module.get_submodule(unit.module)
        for layer in layers:
            layer.begin_learning(self.phase.learns)
        kinds = trainables(module, self.phase.learns)
        if not kinds:
            for layer in layers:
                layer.end_learning()
            return {"iterations": 0}
        problem = UnitProblem(module, kinds, self._data(unit, position), self.q.context, self.cell.ctx.device)
        seed, name = self.cell.cell.seed, f"{self.phase.name}/{unit.name}"
        # One for each unit: whatever a weighter keeps, a resumed run must not differ from an uninterrupted one.
        weighter = self.cell.method.weighter.create()
        context = FitContext(
            unit.name,
            self.phase,
            problem,
            weighter,
            rng=stream(seed, "mini-batches", name),
            weighter_rng=stream(seed, f"weighter/{self.cell.method.weighter.name}", name),
        )
        count = 0
        label = f"{self.phase.name} {position + 1}/{len(self.units)} {unit.name}"
        for progress in self.cell.reconstruction.fit(context):
            count += 1
            self.cell.tell(label, (position + progress) / len(self.units))
        for layer in layers:
            layer.end_learning()
        after = problem.mean_loss()
        self._keep_report(position, weighter.report())
        return {"iterations": count, "loss_after": after}

    def _keep_report(self, position: int, report: Any) -> None:
        if report:
            # Copies, since a report may name one tensor twice and safetensors refuses shared storage.
            tensors = {name: tensor.detach().clone() for name, tensor in report.items()}
            self.entry.save_tensors(f"weighter-{position:03d}.safetensors", tensors)

    def _data(self, unit: UnitPlan, position: int) -> UnitData:
        split = self.cell.split
        quantized = self.phase.inputs == "quantized"
        if unit.name not in self.targets:
            self._capture_targets(position, inputs=not quantized)
        inputs, targets = self.targets.pop(unit.name)
        if quantized:
            inputs = self._record(self.q, {unit.name: self._quantized(unit)}, inputs=True, outputs=False)[unit.name][0]
        return UnitData(inputs, targets, self.calib.step, split.train, split.validation, split.group)

    def _capture_targets(self, position: int, *, inputs: bool) -> None:
        """Full-precision outputs (and inputs) of this unit and of as many following ones as the memory budget allows."""
        later = self.units[position:]
        if not self.groups:
            sizes = self._sizes(later, inputs=inputs)
            self.groups = groups_within(sizes, CAPTURE_BUDGET)
        names = next(group for group in self.groups if self.units[position].name in group)
        modules = {u.name: self._original(u) for u in later if u.name in names}
        self.targets = self._record(None, modules, inputs=inputs, outputs=True)

    def _sizes(self, units: list[UnitPlan], *, inputs: bool) -> dict[str, int]:
        """Bytes that each unit's recording will take, from a pass over one sample."""
        seen = record(
            lambda piece: self._run(None, piece),
            {u.name: self._original(u) for u in units},
            total=1,
            batch=1,
            inputs=inputs,
            outputs=True,
        )
        return {name: len(self.calib) * (a.bytes_per_sample + b.bytes_per_sample) for name, (a, b) in seen.items()}

    def _record(
        self, q: QuantizedDenoiser | None, modules: dict[str, nn.Module], *, inputs: bool, outputs: bool
    ) -> dict[str, tuple[Recording, Recording]]:
        batch = self.cell.ctx.experiment.calibration.batch
        run = lambda piece: self._run(q, piece)  # noqa: E731
        return record(run, modules, total=len(self.calib), batch=batch, inputs=inputs, outputs=outputs)

    def _run(self, q: QuantizedDenoiser | None, piece: range) -> Tensor:
        return self.cell.predict(q, self.calib, torch.arange(piece.start, piece.stop))

    def _original(self, unit: UnitPlan) -> nn.Module:
        return self.cell.ctx.model.denoiser.get_submodule(unit.module)

    def _quantized(self, unit: UnitPlan) -> nn.Module:
        return self.q.module.get_submodule(unit.module)

    def _store(self, unit: UnitPlan, part: str, report: dict[str, Any]) -> None:
        state = {f"{name}|{key}": v for name in unit.layers for key, v in self.q.layers[name].export().items()}
        self.entry.save_tensors(f"{part}.safetensors", state)
        self.entry.save_json(f"{part}.json", report)
