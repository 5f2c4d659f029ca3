"""The partitioners `blocks` and `layers`."""

from __future__ import annotations

from torch import nn

from ptqbench.errors import CellFailedError
from ptqbench.quant.plan import Probe, UnitPlan
from ptqbench.roles.plan import Partitioner
from ptqbench_brecq import BlocksOptions


class Blocks(Partitioner):
    """Units are the outermost modules of given classes; every layer outside them is its own unit (BRECQ).

    A block owns all probed layers inside it, in execution order. Units follow the first call of their module.
    """

    options: BlocksOptions

    def units(self, denoiser: nn.Module, probe: Probe) -> list[UnitPlan]:
        """Disjoint units that cover the probe. Raises `CellFailedError` if no block of these classes was executed."""
        classes = {name: type(module).__name__ for name, module in denoiser.named_modules()}
        free = dict.fromkeys(layer.name for layer in probe.layers)
        units: list[UnitPlan] = []
        blocks = 0
        for name in probe.calls:
            # Callers enter before callees, so the first block seen around a layer is the outermost one.
            owned: tuple[str, ...]
            if name in free:
                owned = (name,)
            elif classes.get(name) in self.options.blocks:
                owned = tuple(layer for layer in free if layer.startswith(f"{name}."))
                blocks += bool(owned)
            else:
                continue
            if owned:
                units.append(UnitPlan(name, name, owned))
            for layer in owned:
                del free[layer]
        if not blocks:
            raise CellFailedError(
                f"the denoiser executes no block of the classes {', '.join(self.options.blocks)}",
                "name its block classes in the option `blocks`, or use the partitioner `layers`",
            )
        return units


class Layers(Partitioner):
    """Every layer is a unit: layer-wise reconstruction (AdaRound)."""

    def units(self, denoiser: nn.Module, probe: Probe) -> list[UnitPlan]:
        """One unit for each probed layer, in execution order."""
        return [UnitPlan(layer.name, layer.name, (layer.name,)) for layer in probe.layers]
