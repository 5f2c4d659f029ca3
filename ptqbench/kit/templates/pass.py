"""More bits for the weights of small layers."""

from __future__ import annotations

import math
from dataclasses import replace

from pydantic import Field

from ptqbench import Component, Options, hookimpl
from ptqbench.quant.plan import Plan, Probe
from ptqbench.roles.plan import PlanPass


class ExampleOptions(Options):
    """What a recipe may set."""

    share: float = Field(0.01, gt=0, le=1, description="a layer is small with at most this share of all weights")
    bits: int = Field(8, ge=2, le=8, description="bits of their weights")


class Example(PlanPass):
    """Changes grids and nothing else, and says why: the bit ledger shows it."""

    options: ExampleOptions

    def apply(self, plan: Plan, probe: Probe) -> Plan:
        """A new plan of the same layers. Layers whose weights stay in floating point have no grid to change."""
        sizes = {layer.name: math.prod(layer.weight_shape) for layer in probe.layers}
        most = self.options.share * sum(sizes.values())
        return plan.with_layers(
            layer.change("small", weight=replace(layer.weight, bits=self.options.bits))
            for layer in plan.layers
            if layer.weight is not None and sizes[layer.name] <= most
        )


@hookimpl
def ptqbench_components() -> list[Component]:
    return [Component("pass", "example", "more bits for small layers", Example, ExampleOptions)]
