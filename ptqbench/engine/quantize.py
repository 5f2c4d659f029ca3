"""Quantizing one cell: weight grids, then the reconstruction's phases unit by unit, activation ranges in between."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ptqbench.component import Bound
from ptqbench.engine.cache import Costs, Entry, cached_tensors, content_key
from ptqbench.engine.calibrate import CalibrationSet, Split, split
from ptqbench.engine.context import RunContext
from ptqbench.engine.observer import Observer
from ptqbench.engine.reference import calibration_set
from ptqbench.engine.rng import stream
from ptqbench.engine.units import UnitFitter
from ptqbench.errors import CellFailedError
from ptqbench.failures import PLUGIN_ERRORS
from ptqbench.quant.grid import Layout, QuantSpec
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import Plan, UnitPlan, check_units
from ptqbench.recipe.experiment import Cell, Method, SiteChoice
from ptqbench.roles.plan import Partitioner
from ptqbench.roles.quantizer import Quantizer
from ptqbench.roles.reconstruction import Phase, Reconstruction
from ptqbench.roles.weighter import Requirements, SampleWeighter

Tell = Callable[[str, float], None]
"""Progress: what is being done, and how far it is in [0, 1]."""


@dataclass(frozen=True)
class MethodFactory:
    """Builds a method's quantizers (a `QuantizerFactory`)."""

    method: Method

    def weight(self, spec: QuantSpec, layout: Layout) -> Quantizer:
        return _quantizer(self.method.weights, spec, layout)

    def activation(self, spec: QuantSpec, layout: Layout) -> Quantizer:
        return _quantizer(self.method.activations, spec, layout)


def _quantizer(choice: SiteChoice, spec: QuantSpec, layout: Layout) -> Quantizer:
    return choice.quantizer.create(spec=spec, layout=layout, estimator=lambda: choice.range.create(levels=spec.levels))


def _spec(choice: SiteChoice) -> QuantSpec | None:
    return None if choice.off else QuantSpec(choice.bits, choice.per, choice.symmetric, choice.steps)


def make_plan(ctx: RunContext, method: Method) -> Plan:
    """Every layer with the method's grids, then the plan passes in order."""
    plan = Plan.uniform(ctx.probe, _spec(method.weights), _spec(method.activations))
    for bound in method.passes:
        plan = bound.create().apply(plan, ctx.probe)
    forgotten = [p.name for p in plan.layers if p.weight is None and not method.weights.off and not p.why]
    if forgotten:
        raise CellFailedError(
            f"a plan pass left layers in full precision without saying why: {', '.join(forgotten)}",
            "note the reason with LayerPlan.change(why, weight=None)",
        )
    return plan


def make_units(ctx: RunContext, partitioner: Partitioner) -> list[UnitPlan]:
    """The method's units, checked to own every layer exactly once."""
    units = partitioner.units(ctx.model.denoiser, ctx.probe)
    check_units(units, ctx.probe)
    return units


def has_work(phase: Phase, method: Method) -> bool:
    """Whether a phase has anything to learn: a site that is quantized (not at 32 bits) with trainables of its kinds."""
    return any(kinds & phase.learns for _, kinds in _offers(method))


def phases_with_work(reconstruction: Reconstruction, method: Method) -> list[Phase]:
    """The phases that have anything to learn.

    Raises `CellFailedError` for a quantizer with trainables of which no phase learns any: it would stay as it started.
    """
    learned = frozenset(kind for phase in reconstruction.phases for kind in phase.learns)
    for quantizer, kinds in _offers(method):
        if kinds and not kinds & learned:
            raise CellFailedError(
                f"the quantizer {quantizer!r} learns {_listed(kinds)}, and no phase of {method.reconstruction.name!r} does",
                "choose a reconstruction that learns this kind of trainables, or a quantizer that learns nothing",
            )
    return [phase for phase in reconstruction.phases if has_work(phase, method)]


def phases_fail(method: Method) -> bool:
    """Whether it cannot even be said what the method's phases are: its cells fail in their own tasks, which tell why."""
    try:
        phases_with_work(method.reconstruction.create(), method)
    except PLUGIN_ERRORS:
        return True
    return False


def check_kinds(q: QuantizedDenoiser) -> None:
    """Raises `CellFailedError` for trainables of a kind that their quantizer does not offer: no phase would learn them."""
    for quantizer in q.module.modules():
        if isinstance(quantizer, Quantizer):
            hidden = {group.kind for group in quantizer.learnable()} - quantizer.offers(quantizer.options)
            if hidden:
                raise CellFailedError(
                    f"the quantizer class {type(quantizer).__name__} has trainables of a kind that it does not offer: "
                    f"{_listed(hidden)}",
                    "name the kind in its offers()",
                )


def _offers(method: Method) -> list[tuple[str, frozenset[str]]]:
    """Name and kinds of trainables of the quantizer at each site that is quantized."""
    found = []
    for site in (method.weights, method.activations):
        if not site.off:
            quantizer: type[Quantizer] = site.quantizer.component.load()
            found.append((site.quantizer.name, quantizer.offers(site.quantizer.options)))
    return found


def _listed(kinds: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(kinds)))


@dataclass
class CellQuantizer:
    """Runs a cell's quantization stages; each is cached under the hash of what it read, so cells share equal prefixes.

    An `observer` looks on while units are fitted. `fitted` has the stage result of each phase, by the phase's name.
    """

    ctx: RunContext
    cell: Cell
    costs: Costs
    tell: Tell
    gradient_steps: int = 0
    observer: Observer | None = None
    fitted: dict[str, Entry] = field(default_factory=dict)

    @property
    def method(self) -> Method:
        if self.cell.method is None:
            raise ValueError("the full-precision cell has nothing to quantize")
        return self.cell.method

    @cached_property
    def plan(self) -> Plan:
        return make_plan(self.ctx, self.method)

    @cached_property
    def reconstruction(self) -> Reconstruction:
        return self.method.reconstruction.create()

    @cached_property
    def needs(self) -> Requirements:
        """What the method's weighter asks for."""
        weighter: SampleWeighter = self.method.weighter.create()
        return weighter.requires

    @cached_property
    def calibration(self) -> tuple[CalibrationSet, str]:
        return calibration_set(self.ctx, self.costs, self.method, self.cell.seed)

    @cached_property
    def split(self) -> Split:
        needs = self.needs
        rng = stream(self.cell.seed, "validation split")
        return split(self.calibration[0].step, self.ctx.schedule.steps, needs.validation, needs.groups, rng)

    def run(self) -> tuple[QuantizedDenoiser, str]:
        """The finished quantized denoiser, and the key of its state."""
        q = QuantizedDenoiser(self.ctx.model.denoiser, self.plan, MethodFactory(self.method), self.ctx.schedule.steps)
        check_kinds(q)
        phases = phases_with_work(self.reconstruction, self.method)
        key = self._weight_grids(q)
        ranged = self.method.activations.off
        if self.reconstruction.phases and not phases:
            name = self.method.reconstruction.name
            raise CellFailedError(f"at {self.cell.bits} there is nothing that {name!r} could learn", "choose other bits")
        for phase in phases:
            if phase.activations and not ranged:
                key, ranged = self._activation_ranges(q, key), True
            key = self._phase(q, phase, key)
        if not ranged:
            key = self._activation_ranges(q, key)
        q.quantize_activations(not self.method.activations.off)
        return q, key

    def _weight_grids(self, q: QuantizedDenoiser) -> str:
        """First ranges of all weights, rounded to nearest."""
        if self.method.weights.off:
            return content_key(self.ctx.base_key, "weights in full precision")
        weights = [(p.name, dataclasses.asdict(p.weight) if p.weight else None, p.partitions) for p in self.plan.layers]
        chosen = self.method.weights
        key = content_key(self.ctx.base_key, "weight grids", weights, chosen.quantizer.key, chosen.range.key)

        def make(_: Entry) -> dict[str, Tensor]:
            self.tell("weight ranges", 0.0)
            q.find_weight_grids()
            return q.export()

        self._through_cache(q, "weight ranges", key, make)
        return key

    def _activation_ranges(self, q: QuantizedDenoiser, upstream: str) -> str:
        """One pass over the training part of the calibration set, in random order, with the weights as they now are."""
        calib, calib_key = self.calibration
        chosen = self.method.activations
        layers = self.plan.layers
        grids: list[Any] = [(p.name, p.activation and dataclasses.asdict(p.activation), p.partitions) for p in layers]
        grids += [dataclasses.asdict(attention) for attention in self.plan.attentions]
        batch = self.ctx.experiment.calibration.batch
        key = content_key(
            upstream, calib_key, "activation ranges", grids, chosen.quantizer.key, chosen.range.key, batch, self._split_key
        )

        def make(_: Entry) -> dict[str, Tensor]:
            train = self.split.train
            order = train[torch.randperm(len(train), generator=stream(self.cell.seed, "activation ranges"))]
            with torch.no_grad(), q.observing():
                for i, piece in enumerate(order.split(batch)):
                    self.tell("activation ranges", i * batch / len(order))
                    self.predict(q, calib, piece)
            q.freeze_activations()
            return q.export()

        self._through_cache(q, "activation ranges", key, make)
        return key

    @property
    def _split_key(self) -> list[Any]:
        needs = self.needs
        return [needs.validation, needs.groups if needs.validation else 1, self.cell.seed]

    def predict(self, q: QuantizedDenoiser | None, calib: CalibrationSet, index: Tensor) -> Tensor:
        """Noise prediction on calibration samples, quantized or (None) in full precision."""
        device = self.ctx.device
        cond = {name: value[index].to(device) for name, value in calib.cond.items()}
        predictor = self.ctx.predictor() if q is None else self.ctx.predictor(q.module, q.context)
        return predictor(calib.x[index].to(device), calib.step[index], cond, calib.t[index])

    def _phase(self, q: QuantizedDenoiser, phase: Phase, upstream: str) -> str:
        """Fit all units in execution order; finished units are kept, so an interrupted phase goes on at the next one."""
        method = self.method
        partitioner: Partitioner = self._partitioner().create()
        units = make_units(self.ctx, partitioner)
        key = content_key(
            upstream,
            self.calibration[1],
            f"phase {phase.name}",
            [dataclasses.asdict(u) for u in units],
            self._partitioner().key,
            method.reconstruction.key,
            [term.key for term in method.losses],
            method.weighter.key,
            self._split_key,
            # How units are recorded: another batch gives other last bits.
            self.ctx.experiment.calibration.batch,
            # A phase that was fitted unobserved has nothing of what an observer keeps.
            *([dict(self.observer.key)] if self.observer else []),
        )
        q.quantize_activations(phase.activations)

        def make(entry: Entry) -> dict[str, Tensor]:
            fitter = UnitFitter(self, q, phase, entry, partitioner, units)
            reports = fitter.run()
            entry.save_json("units.json", reports)
            return q.export()

        stage = f"reconstruct {phase.name}"
        self._through_cache(q, stage, key, make)
        self.fitted[phase.name] = self.ctx.cache.entry(_folder(stage), key)
        reports = self.fitted[phase.name].load_json("units.json")
        self.gradient_steps += sum(report["iterations"] for report in reports.values())
        return key

    def _partitioner(self) -> Bound:
        if self.method.partitioner is None:
            raise CellFailedError(f"method {self.method.name!r} has no partitioner")
        return self.method.partitioner

    def _through_cache(self, q: QuantizedDenoiser, stage: str, key: str, make: Callable[[Entry], dict[str, Tensor]]) -> None:
        """Run or read a stage, and in both cases continue from the stored state: one road for fresh and resumed runs."""
        state = cached_tensors(self.ctx.cache, self.costs, _folder(stage), key, make)
        q.restore(self.ctx.to_device(state))


def _folder(stage: str) -> str:
    return stage.replace(" ", "-")
