"""Quantizing a denoiser: weight grids, then the reconstruction's phases unit by unit, activation ranges in between."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from ptqbench.boundary.build import build
from ptqbench.errors import CellFailedError
from ptqbench.fitting.inner import StepFacts
from ptqbench.fitting.losses import UnitLoss
from ptqbench.fitting.method import MethodFactory, make_plan, phases_with_work
from ptqbench.fitting.observer import Observer
from ptqbench.fitting.subject import Subject
from ptqbench.fitting.unit_data import Samples
from ptqbench.fitting.units import UnitFitter
from ptqbench.plugin.component import Bound
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import Plan, UnitPlan
from ptqbench.recipe.experiment import Method
from ptqbench.results.costs import EVALUATION_STAGES
from ptqbench.results.fits import FitQuality
from ptqbench.results.record import Budget
from ptqbench.roles.plan import Partitioner
from ptqbench.roles.reconstruction import Phase, Reconstruction
from ptqbench.roles.weighter import Requirements, SampleWeighter
from ptqbench.sampling.calibrate import split
from ptqbench.sampling.rng import permutation, stream
from ptqbench.stage.cache import Costs, Entry, cached_tensors, content_key
from ptqbench.stage.stages import Tell


@dataclass(frozen=True)
class Stage:
    """One step of a quantization. `key` names everything that its result depends on, those before it included.

    `sampled` says whether it needs calibration samples; `make` computes it on the denoiser as the stages before left it, None
    where there is nothing to do; `phase` names the reconstruction's phase that it is, if it is one.
    """

    name: str
    key: str
    sampled: bool
    make: Callable[[QuantizedDenoiser, Entry], None] | None = None
    phase: str = ""


@dataclass
class MethodQuantizer:
    """Runs a method's quantization stages on `subject`; each is kept under the hash of what it read, so that cells of a
    comparison share equal prefixes. `seed` names the random streams.

    An `observer` looks on while units are fitted. `fitted` has the stage result of each phase, by the phase's name; `drawn` the
    calibration samples, None where no stage asked for any.
    """

    subject: Subject
    method: Method
    seed: int
    costs: Costs
    tell: Tell
    observer: Observer | None = None
    gradient_steps: int = field(default=0, init=False)
    fitted: dict[str, Entry] = field(default_factory=dict, init=False)
    drawn: Samples | None = field(default=None, init=False)

    @cached_property
    def plan(self) -> Plan:
        return make_plan(self.subject.probe, self.method)

    @cached_property
    def reconstruction(self) -> Reconstruction:
        return build(self.method.reconstruction)

    @cached_property
    def needs(self) -> Requirements:
        """What the method's weighter asks for."""
        weighter: SampleWeighter = build(self.method.weighter)
        return weighter.requires

    @property
    def samples(self) -> Samples:
        """The calibration samples, split, and the predictions of either network on them; drawn when a stage first asks."""
        if self.drawn is None:
            subject, needs = self.subject, self.needs
            calibration = subject.calibration()
            rng = stream(self.seed, "validation split")
            steps, branches = len(subject.timesteps), calibration.branches
            parts = split(calibration.step, steps, needs.validation, needs.groups, rng, branches)
            predict = partial(subject.predict, calibration)
            self.drawn = Samples(calibration, parts, predict, subject.batch, subject.device)
        return self.drawn

    def budget(self) -> Budget:
        """What calibration took: the samples, if any stage asked for them, and everything that the stages evaluated."""
        spent = {stage: n for stage, n in self.costs.evaluations().items() if stage not in EVALUATION_STAGES}
        by_stage = {stage: n.denoiser for stage, n in spent.items() if n.denoiser}
        return Budget(
            training=len(self.drawn.split.train) if self.drawn else 0,
            validation=len(self.drawn.split.validation) if self.drawn else 0,
            gradient_steps=self.gradient_steps,
            denoiser_evaluations=sum(by_stage.values()),
            unit_evaluations=sum(n.unit for n in spent.values()),
            by_stage=by_stage,
        )

    def fits(self) -> list[FitQuality]:
        """What each unit of each finished phase came to, in the order in which they were fitted."""
        reports = (entry.load_json("units.json").values() for entry in self.fitted.values())
        return [FitQuality.from_dict(report) for found in reports for report in found if report["iterations"]]

    @cached_property
    def stages(self) -> list[Stage]:
        """What is to be computed, in order; known without computing any of it. Cells with equal keys share results.

        Raises `CellFailedError` where nothing could be learned.
        """
        phases, ranged = phases_with_work(self.reconstruction, self.method), self.method.activations.off
        if self.reconstruction.phases and not phases:
            name = self.method.reconstruction.name
            raise CellFailedError(f"at {self.method.bits} there is nothing that {name!r} could learn", "choose other bits")
        found = [self._weight_grids()]
        for phase in phases:
            if phase.activations and not ranged:
                ranged = True
                found.append(self._activation_ranges(found[-1].key))
            found.append(self._phase(phase, found[-1].key))
        return found if ranged else [*found, self._activation_ranges(found[-1].key)]

    def run(self, stages: int | None = None) -> tuple[QuantizedDenoiser, str]:
        """The quantized denoiser after all stages, or the first few, and the key of its state."""
        factory, done = MethodFactory(self.method.weights, self.method.activations), self.stages[:stages]
        q = QuantizedDenoiser(self.subject.denoiser, self.plan, factory, len(self.subject.timesteps))
        for stage in done:
            if stage.sampled:
                _ = self.samples  # part of what the result cost, also where it is there already
            if stage.make is not None:
                self._through_cache(q, stage, stage.make)
        q.quantize_activations(not self.method.activations.off)
        return q, done[-1].key

    def _weight_grids(self) -> Stage:
        """First ranges of all weights, rounded to nearest."""
        if self.method.weights.off:
            return Stage("weights", content_key(self.subject.key, "weights in full precision"), sampled=False)
        weights = [(p.name, dataclasses.asdict(p.weight) if p.weight else None, p.partitions) for p in self.plan.layers]
        chosen = self.method.weights
        key = content_key(self.subject.key, "weight grids", weights, chosen.quantizer.key, chosen.range.key)

        def make(q: QuantizedDenoiser, _: Entry) -> None:
            self.tell("weight ranges", 0.0)
            q.find_weight_grids()

        return Stage("weight ranges", key, sampled=False, make=make)

    def _activation_ranges(self, upstream: str) -> Stage:
        """One pass over the training part of the calibration set, in random order, with the weights as they now are."""
        chosen = self.method.activations
        layers = self.plan.layers
        grids: list[Any] = [(p.name, p.activation and dataclasses.asdict(p.activation), p.partitions) for p in layers]
        grids += [dataclasses.asdict(attention) for attention in self.plan.attentions]
        drawn, batch = self.subject.calibration_key, self.subject.batch
        key = content_key(
            upstream, drawn, "activation ranges", grids, chosen.quantizer.key, chosen.range.key, batch, self._split_key
        )

        def make(q: QuantizedDenoiser, _: Entry) -> None:
            train = self.samples.split.train
            order = train[permutation(len(train), stream(self.seed, "activation ranges"))]
            with torch.no_grad(), q.observing():
                for i, piece in enumerate(order.split(batch)):
                    self.tell("activation ranges", i * batch / len(order))
                    self.samples.predict(q, piece)
            q.freeze_activations()

        return Stage("activation ranges", key, sampled=True, make=make)

    @property
    def _split_key(self) -> list[Any]:
        needs = self.needs
        return [needs.validation, needs.groups if needs.validation else 1, self.seed]

    def _phase(self, phase: Phase, upstream: str) -> Stage:
        """Fit all units in execution order; finished units are kept, so an interrupted phase goes on at the next one."""
        method = self.method
        key = content_key(
            upstream,
            self.subject.calibration_key,
            f"phase {phase.name}",
            [dataclasses.asdict(u) for u in self.units],
            self._partitioner.key,
            method.reconstruction.key,
            [term.key for term in method.losses],
            method.weighter.key,
            self._split_key,
            # How units are recorded: another batch gives other last bits.
            self.subject.batch,
            # A phase that was fitted unobserved has nothing of what an observer keeps.
            *([dict(self.observer.key)] if self.observer else []),
        )

        def make(q: QuantizedDenoiser, entry: Entry) -> None:
            q.quantize_activations(phase.activations)
            entry.save_json("units.json", self.fitter(q, phase, entry).run())

        return Stage(f"reconstruct {phase.name}", key, sampled=True, make=make, phase=phase.name)

    @cached_property
    def partitioner(self) -> Partitioner:
        found: Partitioner = build(self._partitioner)
        return found

    @cached_property
    def units(self) -> list[UnitPlan]:
        """All units in execution order."""
        return self.partitioner.units(self.subject.denoiser, self.subject.probe)

    def fitter(self, q: QuantizedDenoiser, phase: Phase, entry: Entry) -> UnitFitter:
        """What fits the units of a phase, and keeps them in `entry`."""
        subject = self.subject
        return UnitFitter(
            q=q,
            denoiser=subject.denoiser,
            samples=self.samples,
            units=self.units,
            partitioner=self.partitioner,
            phase=phase,
            reconstruction=self.reconstruction,
            weighter=self.method.weighter,
            loss=UnitLoss.of(self.method.losses),
            facts=StepFacts(subject.timesteps, subject.gains, subject.denoising_error),
            entry=entry,
            seed=self.seed,
            tell=self.tell,
            observer=self.observer,
        )

    @property
    def _partitioner(self) -> Bound:
        if self.method.partitioner is None:
            raise CellFailedError(f"method {self.method.name!r} has no partitioner")
        return self.method.partitioner

    def _through_cache(self, q: QuantizedDenoiser, stage: Stage, make: Callable[[QuantizedDenoiser, Entry], None]) -> None:
        """Run or read a stage, and in both cases continue from the stored state: one road for fresh and resumed runs."""

        def made(entry: Entry) -> dict[str, Tensor]:
            make(q, entry)
            return q.export()

        folder = stage.name.replace(" ", "-")
        also = ["units.json"] if stage.phase else []
        q.restore(cached_tensors(self.subject.cache, self.costs, folder, stage.key, made, *also))
        if stage.phase:
            self.fitted[stage.phase] = self.subject.cache.entry(folder, stage.key)
            reports = self.fitted[stage.phase].load_json("units.json")
            self.gradient_steps += sum(report["iterations"] for report in reports.values())
