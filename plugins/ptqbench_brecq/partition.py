"""The partitioners `blocks` and `layers`."""

from __future__ import annotations

from torch import nn

from ptqbench.quant.plan import Probe, UnitPlan
from ptqbench.quant.units import outermost_blocks
from ptqbench.roles.plan import Partitioner
from ptqbench_brecq import BlocksOptions


class Blocks(Partitioner):
    """Units are the outermost modules of given classes; every layer outside them is its own unit (BRECQ).

    A block owns all probed layers inside it, in execution order. Units follow the first call of their module.
    """

    options: BlocksOptions

    def units(self, denoiser: nn.Module, probe: Probe) -> list[UnitPlan]:
        """Disjoint units that cover the probe. Raises `CellFailedError` if no block of these classes was executed."""
        found = outermost_blocks(denoiser, probe, self.options.blocks)
        return [UnitPlan(module, module, layers) for module, layers in found]


class Layers(Partitioner):
    """Every layer is a unit: layer-wise reconstruction (AdaRound)."""

    def units(self, denoiser: nn.Module, probe: Probe) -> list[UnitPlan]:
        """One unit for each probed layer, in execution order."""
        return [UnitPlan(layer.name, layer.name, (layer.name,)) for layer in probe.layers]
