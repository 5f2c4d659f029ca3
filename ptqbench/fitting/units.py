"""Fitting the units of one phase in execution order, resumable unit by unit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from ptqbench.boundary.build import build
from ptqbench.errors import CellFailedError
from ptqbench.failures import blamed
from ptqbench.fitting.fit import UnitFit
from ptqbench.fitting.inner import StepFacts, UnitModules, UnitProblem, trainables
from ptqbench.fitting.losses import UnitLoss
from ptqbench.fitting.network import NetworkError, Predictions
from ptqbench.fitting.observer import Observer
from ptqbench.fitting.quality import Examination, weighting
from ptqbench.fitting.unit_capture import UnitCapture
from ptqbench.fitting.unit_data import Samples, UnitData
from ptqbench.plugin.component import Bound
from ptqbench.quant.layer import QuantLayer
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import UnitPlan
from ptqbench.results.fits import FitQuality
from ptqbench.roles.plan import Partitioner
from ptqbench.roles.reconstruction import Phase, Reconstruction
from ptqbench.roles.weighter import SampleWeighter
from ptqbench.sampling.rng import stream
from ptqbench.stage.cache import Entry
from ptqbench.stage.stages import Tell


def weighter_file(position: int) -> str:
    """Where a phase's entry keeps what the weighter reported of the unit at this position."""
    return f"weighter-{position:03d}.safetensors"


def observed_file(position: int) -> str:
    """Where a phase's entry keeps what the observer found of the unit at this position."""
    return f"observed-{position:03d}.safetensors"


@dataclass
class UnitFitter:
    """Captures, fits, hardens and stores one unit after the other.

    `q` learns to do what `denoiser`, its full-precision original, does on `samples`; `entry` keeps each finished unit. A
    weighter is made anew for each unit. `seed` names the random streams; an `observer` looks on.
    """

    q: QuantizedDenoiser
    denoiser: nn.Module
    samples: Samples
    units: list[UnitPlan]
    partitioner: Partitioner
    phase: Phase
    reconstruction: Reconstruction
    weighter: Bound
    loss: UnitLoss
    facts: StepFacts
    entry: Entry
    seed: int
    tell: Tell
    observer: Observer | None = None

    @cached_property
    def capture(self) -> UnitCapture:
        return UnitCapture(self.samples, self.q, self.denoiser, self.phase, self.loss, self.partitioner, self.units, self.seed)

    @cached_property
    def predictions(self) -> Predictions:
        return Predictions(self.samples)

    def run(self) -> dict[str, Any]:
        """Fit every unit that has something to learn. Raises `CellFailedError` if none has."""
        reports: dict[str, Any] = {}
        for i, unit in enumerate(self.units):
            part = f"unit-{i:03d}"
            if not (self.entry.has(f"{part}.json") and self.entry.has(f"{part}.safetensors")):
                with blamed(f"unit {unit.name}, phase {self.phase.name}"):
                    self._store(unit, part, self._fit(unit, i))
            # Fresh and resumed runs both go on from what was stored, so that they cannot differ.
            self.q.restore(self._stored(part))
            reports[unit.name] = self.entry.load_json(f"{part}.json")
        if not any(report["iterations"] for report in reports.values()):
            raise CellFailedError(
                f"phase {self.phase.name!r} found nothing to learn",
                'choose quantizers with trainables, or reconstruction = "none"',
            )
        return reports

    def _fit(self, unit: UnitPlan, position: int) -> dict[str, Any]:
        sites = self.q.owned(unit).values()
        exam = Examination([site for site in sites if isinstance(site, QuantLayer)], self.phase.learns)
        kinds = self.begin(unit)
        if not kinds:
            self.end(unit)
            return {"iterations": 0}
        # One for each unit: whatever a weighter keeps, a resumed run must not differ from an uninterrupted one.
        weighter: SampleWeighter = build(self.weighter)
        problem = self.problem(unit, position, kinds, self.capture.data(unit, position))
        count = self._optimise(problem, weighter, unit, position, exam)
        exam.soft()
        self.end(unit)
        report = weighter.report()
        self._keep_report(position, report)
        learned = weighting(report, problem.train_steps, len(problem.timesteps))
        quality = FitQuality(self.phase.name, unit.name, count, weighter=learned, **exam.hard())
        return dataclasses.asdict(quality)

    def begin(self, unit: UnitPlan) -> dict[str, str]:
        """Have a unit's quantizers learn; the kinds of its trainables by name."""
        for site in self.q.owned(unit).values():
            site.begin_learning(self.phase.learns)
        return trainables(self.partitioner.assemble(unit, self.q.module), self.phase.learns)

    def end(self, unit: UnitPlan) -> None:
        """Harden what a unit's quantizers learned."""
        for site in self.q.owned(unit).values():
            site.end_learning()

    def problem(self, unit: UnitPlan, position: int, kinds: Mapping[str, str], data: UnitData) -> UnitProblem:
        """The unit at this position as it now is, on its samples."""
        quantized, original = (self.partitioner.assemble(unit, network) for network in (self.q.module, self.denoiser))
        layers = {name: (self.q.layers[name], self.denoiser.get_submodule(name)) for name in unit.layers}
        return UnitProblem(
            UnitModules(quantized, original, layers),
            kinds,
            data,
            self.loss,
            self.facts,
            self.q.context,
            self.samples.device,
            self._network(position),
        )

    def _optimise(
        self, problem: UnitProblem, weighter: SampleWeighter, unit: UnitPlan, position: int, exam: Examination
    ) -> int:
        """Run the reconstruction on a unit; returns the number of its iterations."""
        name = f"{self.phase.name}/{unit.name}"
        fit = UnitFit(
            unit.name,
            self.phase,
            self.reconstruction.course(self.phase),
            problem,
            weighter,
            rng=stream(self.seed, "mini-batches", name),
            weighter_rng=stream(self.seed, f"weighter/{self.weighter.name}", name),
        )
        count, observer = 0, self.observer
        label = f"{self.phase.name} {position + 1}/{len(self.units)} {unit.name}"
        if observer is not None:
            observer.begin(problem)
        fit.begin()
        exam.begin(problem)
        for progress in self.reconstruction.fit(fit):
            count += 1
            if observer is not None:
                observer.see(progress)
            self.tell(label, (position + progress) / len(self.units))
        if observer is not None:
            self.entry.save_tensors(observed_file(position), observer.end(weighter))
        return count

    def _network(self, position: int) -> NetworkError:
        """The network quantized up to and including the unit at this position."""
        quantized = {name for unit in self.units[: position + 1] for name in self.q.owned(unit)}
        return NetworkError(self.samples, self.predictions, self.q, quantized)

    def _stored(self, part: str) -> dict[str, Tensor]:
        state = self.entry.load_tensors(f"{part}.safetensors")
        return {name: tensor.to(self.samples.device) for name, tensor in state.items()}

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
