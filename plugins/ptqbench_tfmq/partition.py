"""The partitioner `temporal-blocks`."""

from __future__ import annotations

from torch import nn

from ptqbench.quant.plan import Probe, UnitPlan
from ptqbench.quant.units import outermost_blocks
from ptqbench.roles.plan import Partitioner
from ptqbench_tfmq import TemporalBlocksOptions
from ptqbench_tfmq.temporal import activation_before, assemble_temporal, find_temporal, matches

NAME = "temporal block"


class TemporalBlocks(Partitioner):
    """The temporal block first, as a synthetic unit; then blocks and single layers in the order of their first call.

    The residual blocks that follow do not own their timestep projections (TFMQ-DM, temporal information aware
    reconstruction).
    """

    options: TemporalBlocksOptions

    def units(self, denoiser: nn.Module, probe: Probe) -> list[UnitPlan]:
        """Disjoint units that cover the probe. Raises `CellFailedError` if there is no temporal block, or no other block."""
        found = find_temporal(probe, self.options)
        for name in found.projections:
            activation_before(denoiser, name)
        temporal = UnitPlan(NAME, found.embedding[0], found.layers, synthetic=True)
        others = outermost_blocks(denoiser, probe, self.options.blocks, taken=found.layers)
        return [temporal, *(UnitPlan(module, module, layers) for module, layers in others)]

    def assemble(self, unit: UnitPlan, denoiser: nn.Module) -> nn.Module:
        """The temporal block as a `TemporalBlock`; any other unit is its submodule."""
        if not unit.synthetic:
            return super().assemble(unit, denoiser)
        inside = f"{unit.module}."
        projections = [n for n in unit.layers if matches(n, self.options.projections) and not n.startswith(inside)]
        return assemble_temporal(denoiser, unit.module, unit.layers, projections)
