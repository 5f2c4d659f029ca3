"""What plan passes and partitioners return: plans of the same network, and units that own every layer once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ptqbench.boundary.call import Call
from ptqbench.boundary.values import described
from ptqbench.errors import CellFailedError
from ptqbench.quant.grid import QuantSpec
from ptqbench.quant.plan import SITES, LayerPlan, Plan, Probe, UnitPlan, check_units
from ptqbench.roles.plan import Partitioner, PlanPass


def _apply(call: Call, _: PlanPass, apply: Callable[[Plan, Probe], Plan], plan: Plan, probe: Probe) -> Plan:
    found: Any = apply(plan, probe)
    if not isinstance(found, Plan):
        raise call.refused(f"returned {described(found)}", "return a ptqbench.quant.plan.Plan, as plan.with_layers() does")
    for what in ("layers", "attentions"):
        before, after = ([entry.name for entry in getattr(p, what)] for p in (plan, found))
        if before != after:
            raise call.refused(f"changed which {what} there are", "keep them, in their order; weight=None leaves one as it is")
    for layer, old, seen in zip(found.layers, plan.layers, probe.layers, strict=True):
        _check_layer(call, layer, old, seen.weight_shape)
    for attention in found.attentions:
        for site in SITES:
            _check_spec(call, f"{attention.name} {site}", attention.spec(site))
    return found


def _check_layer(call: Call, layer: LayerPlan, old: LayerPlan, weight_shape: tuple[int, ...]) -> None:
    for spec in (layer.weight, layer.activation):
        _check_spec(call, layer.name, spec)
    if layer.partitions and sum(layer.partitions) != weight_shape[1]:
        widths = "+".join(map(str, layer.partitions))
        raise call.refused(f"divides {layer.name} into {widths} input channels", f"it has {weight_shape[1]}")
    if layer.weight is None and old.weight is not None and len(layer.why) <= len(old.why):
        raise call.refused(
            f"left {layer.name} in full precision without saying why", "note it with LayerPlan.change(why, weight=None)"
        )


def _check_spec(call: Call, name: str, spec: object) -> None:
    if spec is None:
        return
    if not isinstance(spec, QuantSpec) or not isinstance(spec.bits, int) or not 2 <= spec.bits <= 16 or spec.steps < 1:
        raise call.refused(f"gave {name} the grid {spec}", "a grid is None or a QuantSpec of 2 to 16 bits, steps 1 or more")


def _units(
    call: Call, _: Partitioner, units: Callable[[nn.Module, Probe], list[UnitPlan]], denoiser: nn.Module, probe: Probe
) -> list[UnitPlan]:
    found: Any = units(denoiser, probe)
    if not isinstance(found, list | tuple) or not all(isinstance(unit, UnitPlan) for unit in found):
        raise call.refused(f"returned {described(found)}", "return a list of ptqbench.quant.plan.UnitPlan")
    try:
        check_units(list(found), probe)
    except CellFailedError as error:
        raise call.refused(f"made units of which {error.message}", "each layer belongs to one unit") from error
    known = dict(denoiser.named_modules())
    for unit in found:
        if unit.module not in known:
            raise call.refused(f"starts the unit {unit.name!r} at {unit.module!r}", "name a submodule of the denoiser")
    return list(found)


def _assemble(
    call: Call, _: Partitioner, assemble: Callable[[UnitPlan, nn.Module], nn.Module], unit: UnitPlan, denoiser: nn.Module
) -> nn.Module:
    found: Any = assemble(unit, denoiser)
    if not isinstance(found, nn.Module):
        raise call.refused(f"assembled {described(found)} for {unit.name!r}", "return a module made of the denoiser's parts")
    return found


CHECKS = {"apply": _apply, "units": _units, "assemble": _assemble}
