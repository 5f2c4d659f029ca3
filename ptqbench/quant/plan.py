"""The plan: every layer's grids and partitions, and the units in execution order. Plain data, hashable, no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from ptqbench.errors import CellFailedError
from ptqbench.quant.grid import QuantSpec


@dataclass(frozen=True)
class LayerProbe:
    """What one forward pass showed of a layer. `macs` are multiply-accumulates for one sample.

    `cat` holds the channel widths when the layer's input came straight from a concatenation along channels, else ().
    `reads_input` is true for layers that consume the denoiser's own input x.
    """

    name: str
    kind: str
    weight_shape: tuple[int, ...]
    macs: int
    cat: tuple[int, ...]
    reads_input: bool


@dataclass(frozen=True)
class Probe:
    """Layers in execution order, and all module names in the order in which they are first called.

    `steps` is the number of sampling steps, the most step groups that a grid can have.
    """

    layers: tuple[LayerProbe, ...]
    calls: tuple[str, ...]
    steps: int = 1


@dataclass(frozen=True)
class LayerPlan:
    """A layer's grids (None = full precision), the widths of its input-channel partitions, and why it differs."""

    name: str
    kind: str
    weight: QuantSpec | None
    activation: QuantSpec | None
    partitions: tuple[int, ...] = ()
    why: tuple[str, ...] = ()

    def change(self, why: str, **changes: Any) -> LayerPlan:
        """A copy with some fields replaced and the reason noted for the bit ledger."""
        return replace(self, why=(*self.why, why), **changes)


@dataclass(frozen=True)
class UnitPlan:
    """A unit: the module that is called, and the quantized layers that it owns.

    A synthetic unit is put together by its partitioner's `assemble`; `module` then says whose inputs it takes.
    """

    name: str
    module: str
    layers: tuple[str, ...]
    synthetic: bool = False


@dataclass(frozen=True)
class Plan:
    """Layer plans in execution order."""

    layers: tuple[LayerPlan, ...]

    def __getitem__(self, name: str) -> LayerPlan:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)

    def with_layers(self, changed: Iterable[LayerPlan]) -> Plan:
        """A plan in which layers of the same names are replaced."""
        new = {layer.name: layer for layer in changed}
        return Plan(tuple(new.get(layer.name, layer) for layer in self.layers))

    @classmethod
    def uniform(cls, probe: Probe, weight: QuantSpec | None, activation: QuantSpec | None) -> Plan:
        """Every probed layer with the same grids."""
        return cls(tuple(LayerPlan(p.name, p.kind, weight, activation) for p in probe.layers))

    def ledger(self, probe: Probe) -> list[dict[str, Any]]:
        """One row per layer: grids, partitions, exceptions, weights and multiply-accumulates."""
        rows = []
        for layer, seen in zip(self.layers, probe.layers, strict=True):
            row = asdict(layer)
            row["weight_shape"] = list(seen.weight_shape)
            row["macs"] = seen.macs
            row["partitions"], row["why"] = list(layer.partitions), list(layer.why)
            rows.append(row)
        return rows


def check_units(units: list[UnitPlan], probe: Probe) -> None:
    """Units must be disjoint and cover every layer. Raises `CellFailedError` naming the layers at fault."""
    owned = [name for unit in units for name in unit.layers]
    twice = sorted({name for name in owned if owned.count(name) > 1})
    missing = sorted({layer.name for layer in probe.layers} - set(owned))
    if twice or missing:
        raise CellFailedError(
            "units must own every layer exactly once"
            + (f"; owned twice: {', '.join(twice)}" if twice else "")
            + (f"; owned by none: {', '.join(missing)}" if missing else ""),
            "mend the partitioner",
        )
