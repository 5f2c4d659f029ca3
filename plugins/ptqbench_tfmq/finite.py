"""The plan pass `finite-set`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from ptqbench.errors import CellFailedError
from ptqbench.quant.plan import SITES, AttentionPlan, LayerPlan, Plan, Probe
from ptqbench.roles.plan import PlanPass
from ptqbench_tfmq import FiniteSetOptions
from ptqbench_tfmq.temporal import find_temporal

WHY = "finite-set"


class FiniteSet(PlanPass):
    """Gives the temporal block's activation grids a scale and zero point for each sampling step.

    What these layers see depends on the timestep alone, and a sampler visits a finite set of timesteps (TFMQ-DM, finite set
    calibration). As released, all layers and attentions get such grids.
    """

    options: FiniteSetOptions

    def apply(self, plan: Plan, probe: Probe) -> Plan:
        """A plan with grids per step. Full precision stays full precision.

        Raises `CellFailedError` if there is no temporal block, or if none of its activations is quantized while others are.
        """
        if self.options.compat:
            changed = plan.with_layers(_layers(plan, {layer.name for layer in plan.layers}, probe.steps))
            return changed.with_attentions(_attention(attention, probe.steps) for attention in plan.attentions)
        found = _layers(plan, find_temporal(probe, self.options).layers, probe.steps)
        if not found and any(layer.activation for layer in plan.layers):
            raise CellFailedError(
                "finite-set found no quantized activation in the temporal block",
                "drop the pass, or the pass before it that leaves these layers in full precision",
            )
        return plan.with_layers(found)


def _layers(plan: Plan, names: Collection[str], steps: int) -> list[LayerPlan]:
    """Those of the named layers whose activations are quantized, with grids per step."""
    found = []
    for layer in plan.layers:
        if layer.name in names and layer.activation is not None:
            found.append(layer.change(WHY, activation=replace(layer.activation, steps=steps)))
    return found


def _attention(attention: AttentionPlan, steps: int) -> AttentionPlan:
    specs = {site: spec for site in SITES if (spec := attention.spec(site)) is not None}
    return attention.change(WHY, **{site: replace(spec, steps=steps) for site, spec in specs.items()})
