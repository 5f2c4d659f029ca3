"""What units are fitted on while the network changes unit by unit, against whole passes through it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from enginekit import PLAIN, cell_of, context, experiment, quantized

from ptqbench.boundary.build import build
from ptqbench.fitting import unit_capture
from ptqbench.fitting.unit_capture import UnitCapture
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import UnitPlan
from ptqbench.roles.reconstruction import Phase
from ptqbench.sampling.capture import Recording

PHASE = Phase("rounding", frozenset({"rounding"}), True, "mixed")


def made(cache, *overrides: str, order: Callable[[list[UnitPlan]], list[UnitPlan]] = list) -> UnitCapture:
    short = [f"methods.qdiffusion.reconstruction.{name}=1" for name in ("iterations", "step_iterations")]
    ctx = context(cache, experiment(*short, *overrides, methods=("qdiffusion",)))
    cell = cell_of(ctx, "qdiffusion")
    q, quantizer = quantized(ctx, cell)
    partitioner = build(cell.method.partitioner)
    units = order(partitioner.units(ctx.model.denoiser, ctx.probe))
    return UnitCapture(quantizer.samples, q, ctx.model.denoiser, PHASE, PLAIN, partitioner, units)


def change(q: QuantizedDenoiser, unit: UnitPlan) -> None:
    """As a fit would: other weights in the unit's layers."""
    for name in unit.layers:
        q.layers[name].baked = q.layers[name].baked * 1.25 + 0.01


def equal(a: Recording, b: Recording) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.tensors, b.tensors, strict=True))


def halves(units: list[UnitPlan]) -> list[UnitPlan]:
    """The blocks without their second layer, which comes last of all: blocks that run early are not finished for long."""
    late = [unit.layers[1] for unit in units if len(unit.layers) > 1]
    early = [dataclasses.replace(u, layers=tuple(n for n in u.layers if n not in late)) for u in units]
    return early + [UnitPlan(name, name, (name,)) for name in late]


AMPLE = 2**30
CASES = {
    "ample memory": ("unet", list, AMPLE),
    "little memory": ("plain", list, 20_000),
    "no memory": ("plain", list, 0),
    "backwards": ("plain", lambda units: units[::-1], AMPLE),
    "blocks in two": ("plain", halves, AMPLE),
}


@pytest.mark.parametrize(("network", "order", "budget"), CASES.values(), ids=CASES)
def test_units_get_what_whole_passes_give(cache, monkeypatch, network, order, budget):
    monkeypatch.setattr(unit_capture, "REPLAY_BUDGET", budget)
    monkeypatch.setattr(unit_capture, "CAPTURE_BUDGET", 100_000)
    capture = made(cache, f"model.network={network}", order=order)
    for i, unit in enumerate(capture.units):
        data = capture.data(unit, i)
        modules = {unit.name: capture.q.module.get_submodule(unit.module)}
        assert equal(data.inputs, capture._record(capture.q, modules, inputs=True, outputs=False)[unit.name][0])
        modules = {unit.name: capture.denoiser.get_submodule(unit.module)}
        full = capture._record(None, modules, inputs=True, outputs=True)[unit.name]
        assert equal(data.full_inputs, full[0])
        assert equal(data.targets, full[1])
        change(capture.q, unit)


def test_a_unit_that_is_no_module_changes_what_may_be_kept(cache):
    capture = made(cache, "model.network=unet", "methods.qdiffusion.partitioner=temporal-blocks", order=lambda u: u[1:] + u[:1])
    assert capture.units[-1].synthetic
    for i, unit in enumerate(capture.units):
        found = capture.data(unit, i).inputs
        modules = {unit.name: capture.q.module.get_submodule(unit.module)}
        assert equal(found, capture._record(capture.q, modules, inputs=True, outputs=False)[unit.name][0])
        assert capture._settled(i) == []
        change(capture.q, unit)


def test_units_are_settled_once_nothing_before_them_will_change(cache):
    capture = made(cache, "model.network=plain")
    names = [unit.name for unit in capture.units]
    assert [capture._settled(i) for i in range(len(names))] == [names[:i] for i in range(len(names))]
    assert len(names) > 3
