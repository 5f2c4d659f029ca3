"""The plan pass `skip-split`."""

from __future__ import annotations

from ptqbench.errors import CellFailedError
from ptqbench.quant.plan import LayerProbe, Plan, Probe
from ptqbench.roles.plan import PlanPass
from ptqbench_qdiffusion import SplitOptions


class SkipSplit(PlanPass):
    """Partitions the input channels of every layer whose input came straight from a concatenation along channels.

    In a UNet these are the 1x1 shortcuts of the decoder, where deep features meet skip features of another range.
    """

    options: SplitOptions

    def apply(self, plan: Plan, probe: Probe) -> Plan:
        """A plan with partitions. Raises `CellFailedError` if there is nothing to split and the option requires it."""
        found = [layer for layer in probe.layers if _splits(layer)]
        if not found and self.options.required:
            raise CellFailedError(
                "skip-split found no layer whose input is a concatenation along channels",
                "drop the pass, or set its option required = false",
            )
        return plan.with_layers(plan[layer.name].change("skip-split", partitions=layer.cat) for layer in found)


def _splits(layer: LayerProbe) -> bool:
    """A grouped convolution sees only some of the channels in each of its rows and stays whole."""
    return len(layer.cat) > 1 and sum(layer.cat) == layer.weight_shape[1]
