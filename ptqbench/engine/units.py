"""Fitting the units of one phase in execution order, resumable unit by unit."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ptqbench.engine.cache import Costs, Entry
from ptqbench.engine.fit import FitContext
from ptqbench.engine.inner import StepFacts, UnitModules, UnitProblem, trainables
from ptqbench.engine.losses import UnitLoss
from ptqbench.engine.reference import denoising_error
from ptqbench.engine.rng import stream
from ptqbench.engine.unit_capture import UnitCapture
from ptqbench.errors import CellFailedError
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import UnitPlan
from ptqbench.roles.plan import Partitioner
from ptqbench.roles.reconstruction import Phase
from ptqbench.roles.weighter import SampleWeighter

if TYPE_CHECKING:
    from ptqbench.engine.quantize import CellQuantizer


def weighter_file(position: int) -> str:
    """Where a phase's entry keeps what the weighter reported of the unit at this position."""
    return f"weighter-{position:03d}.safetensors"


def observed_file(position: int) -> str:
    """Where a phase's entry keeps what the observer found of the unit at this position."""
    return f"observed-{position:03d}.safetensors"


class UnitFitter:
    """Captures, fits, hardens and stores one unit after the other."""

    def __init__(
        self,
        cell: CellQuantizer,
        q: QuantizedDenoiser,
        phase: Phase,
        entry: Entry,
        partitioner: Partitioner,
        units: list[UnitPlan],
    ) -> None:
        self.cell, self.q, self.phase, self.entry = cell, q, phase, entry
        self.partitioner, self.units = partitioner, units
        self.loss = UnitLoss.of(cell.method.losses)
        self.capture = UnitCapture(cell, q, phase, self.loss, partitioner, units)

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
        sites = self.q.owned(unit).values()
        module = self.partitioner.assemble(unit, self.q.module)
        for site in sites:
            site.begin_learning(self.phase.learns)
        kinds = trainables(module, self.phase.learns)
        if not kinds:
            for site in sites:
                site.end_learning()
            return {"iterations": 0}
        # One for each unit: whatever a weighter keeps, a resumed run must not differ from an uninterrupted one.
        weighter: SampleWeighter = self.cell.method.weighter.create()
        problem = UnitProblem(
            UnitModules(module, self.partitioner.assemble(unit, self.cell.ctx.model.denoiser), self._layers(unit)),
            kinds,
            self.capture.data(unit, position),
            self.loss,
            self._facts(),
            self.q.context,
            self.cell.ctx.device,
        )
        count = self._optimise(problem, weighter, unit, position)
        for site in sites:
            site.end_learning()
        after = problem.mean_loss()
        self._keep_report(position, weighter.report())
        return {"iterations": count, "loss_after": after}

    def _optimise(self, problem: UnitProblem, weighter: SampleWeighter, unit: UnitPlan, position: int) -> int:
        """Run the reconstruction on a unit; returns the number of its iterations."""
        seed, name = self.cell.cell.seed, f"{self.phase.name}/{unit.name}"
        context = FitContext(
            unit.name,
            self.phase,
            problem,
            weighter,
            rng=stream(seed, "mini-batches", name),
            weighter_rng=stream(seed, f"weighter/{self.cell.method.weighter.name}", name),
            weighter_name=self.cell.method.weighter.name,
        )
        count, observer = 0, self.cell.observer
        label = f"{self.phase.name} {position + 1}/{len(self.units)} {unit.name}"
        if observer is not None:
            observer.begin(problem)
        for progress in self.cell.reconstruction.fit(context):
            count += 1
            if observer is not None:
                observer.see(progress)
            self.cell.tell(label, (position + progress) / len(self.units))
        if observer is not None:
            self.entry.save_tensors(observed_file(position), observer.end(weighter))
        return count

    def _layers(self, unit: UnitPlan) -> dict[str, Any]:
        denoiser = self.cell.ctx.model.denoiser
        return {name: (self.q.layers[name], denoiser.get_submodule(name)) for name in unit.layers}

    def _facts(self) -> StepFacts:
        ctx = self.cell.ctx
        return StepFacts(ctx.schedule.timesteps, partial(denoising_error, ctx, Costs(), self.cell.cell.seed))

    def _keep_report(self, position: int, report: Any) -> None:
        if report:
            # Copies, since a report may name one tensor twice and safetensors refuses shared storage.
            tensors = {name: tensor.detach().clone() for name, tensor in report.items()}
            self.entry.save_tensors(weighter_file(position), tensors)

    def _store(self, unit: UnitPlan, part: str, report: dict[str, Any]) -> None:
        sites = self.q.owned(unit).items()
        state = {f"{name}|{key}": value for name, site in sites for key, value in site.export().items()}
        self.entry.save_tensors(f"{part}.safetensors", state)
        self.entry.save_json(f"{part}.json", report)
