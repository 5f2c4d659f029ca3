"""Units of so many layers that follow each other in one container."""

from __future__ import annotations

from torch import nn

from ptqbench import Component, NoOptions, hookimpl
from ptqbench.quant.plan import Probe, UnitPlan
from ptqbench.roles.plan import Partitioner


class Example(Partitioner):
    """A unit for each direct child of the denoiser that has layers, and for each layer that is a child itself."""

    def units(self, denoiser: nn.Module, probe: Probe) -> list[UnitPlan]:
        """Disjoint units that cover all layers of the probe, in its order of execution."""
        owned: dict[str, list[str]] = {}
        for layer in probe.layers:
            owned.setdefault(self._module(denoiser, layer.name), []).append(layer.name)
        return [UnitPlan(module, module, tuple(layers)) for module, layers in owned.items()]

    def _module(self, denoiser: nn.Module, layer: str) -> str:
        """The child that a layer belongs to; a list of modules is never called, its items are."""
        first, _, rest = layer.partition(".")
        if rest and isinstance(getattr(denoiser, first), nn.ModuleList | nn.ModuleDict):
            return f"{first}.{rest.partition('.')[0]}"
        return first


@hookimpl
def ptqbench_components() -> list[Component]:
    return [Component("partitioner", "example", "children of the denoiser", Example, NoOptions)]
