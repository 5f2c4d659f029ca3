"""The plan: the grids of every layer and attention, partitions, and the units in execution order.

Plain data, hashable, no torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from ptqbench.errors import CellFailedError
from ptqbench.quant.grid import QuantSpec
from ptqbench.quant.ledger import ATTENTION, UNSEEN_ATTENTION

SITES: Final = ("q", "k", "v", "softmax")
"""Where an attention's values go to grids: queries, keys and values as they enter, and the softmax's output."""


@dataclass(frozen=True)
class LayerProbe:
    """What one forward pass showed of a layer. `macs` are multiply-accumulates for one sample, of all its calls.

    `cat` holds the channel widths when the layer's input came straight from a concatenation along channels, else ().
    `reads_input` is true for layers that consume the denoiser's own input x. `plain` is false for those that give something
    else than torch's layer of their kind would with their weight: with a `forward` or a hook of their own.
    """

    name: str
    kind: str
    weight_shape: tuple[int, ...]
    macs: int
    cat: tuple[int, ...]
    reads_input: bool
    plain: bool = True


@dataclass(frozen=True)
class AttentionProbe:
    """What one forward pass showed of a module that calls scaled dot-product attention itself.

    `score_macs` are the multiply-accumulates of q k^T for one sample, `value_macs` those of the softmax times v, each
    summed over the module's `calls`.
    """

    name: str
    score_macs: int
    value_macs: int
    calls: int = 1

    def macs(self, site: str) -> int:
        """Multiply-accumulates of the product that the values at a site enter."""
        return self.score_macs if site in ("q", "k") else self.value_macs


@dataclass(frozen=True)
class Probe:
    """Layers in execution order, and all module names in the order in which they are first called.

    `steps` is the number of sampling steps, the most step groups that a grid can have. `softmaxes` names the modules that
    compute a softmax outside scaled dot-product attention: theirs may be attentions that nothing here can see. `unseen` names
    the modules that are attentions by their layers (to_q, to_k, to_v) and make no call that is seen.
    """

    layers: tuple[LayerProbe, ...]
    calls: tuple[str, ...]
    steps: int = 1
    attentions: tuple[AttentionProbe, ...] = ()
    softmaxes: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()


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
class AttentionPlan:
    """An attention's grids (None = floating point), per tensor, and why they differ: (site, reason) pairs."""

    name: str
    q: QuantSpec | None
    k: QuantSpec | None
    v: QuantSpec | None
    softmax: QuantSpec | None
    why: tuple[tuple[str, str], ...] = ()

    def spec(self, site: str) -> QuantSpec | None:
        """The grid of one of `SITES`."""
        found: QuantSpec | None = getattr(self, site)
        return found

    def change(self, why: str, **changes: QuantSpec | None) -> AttentionPlan:
        """A copy with the grids of some sites replaced and the reason noted for each of them."""
        return replace(self, why=(*self.why, *((site, why) for site in changes)), **changes)  # type: ignore[arg-type]

    @classmethod
    def uniform(cls, name: str, activation: QuantSpec | None) -> AttentionPlan:
        """All sites with the grid of activations, per tensor; the softmax's starts at zero, since its values do."""
        if activation is None:
            return cls(name, None, None, None, None)
        signed = replace(activation, per="tensor")
        return cls(name, signed, signed, signed, replace(signed, symmetric=False, nonnegative=True))


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
    """Plans of layers and attentions in execution order."""

    layers: tuple[LayerPlan, ...]
    attentions: tuple[AttentionPlan, ...] = ()

    def __getitem__(self, name: str) -> LayerPlan:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)

    def with_layers(self, changed: Iterable[LayerPlan]) -> Plan:
        """A plan in which layers of the same names are replaced."""
        new = {layer.name: layer for layer in changed}
        return replace(self, layers=tuple(new.get(layer.name, layer) for layer in self.layers))

    def with_attentions(self, changed: Iterable[AttentionPlan]) -> Plan:
        """A plan in which attentions of the same names are replaced."""
        new = {attention.name: attention for attention in changed}
        return replace(self, attentions=tuple(new.get(attention.name, attention) for attention in self.attentions))

    @classmethod
    def uniform(cls, probe: Probe, weight: QuantSpec | None, activation: QuantSpec | None) -> Plan:
        """Every probed layer and attention with the same grids."""
        layers = tuple(LayerPlan(p.name, p.kind, weight, activation) for p in probe.layers)
        return cls(layers, tuple(AttentionPlan.uniform(p.name, activation) for p in probe.attentions))

    def ledger(self, probe: Probe) -> list[dict[str, Any]]:
        """One row per layer: grids, partitions, exceptions, weights and multiply-accumulates.

        Then one for each site of each attention, of kind `ATTENTION` and with "site"; its multiply-accumulates are those of
        the product that it enters. Then one for each attention, and each softmax, whose products are not seen.
        """
        rows = []
        for layer, seen in zip(self.layers, probe.layers, strict=True):
            row = asdict(layer)
            row["weight_shape"] = list(seen.weight_shape)
            row["macs"] = seen.macs
            row["partitions"], row["why"] = list(layer.partitions), list(layer.why)
            rows.append(row)
        for attention, found in zip(self.attentions, probe.attentions, strict=True):
            rows += [_site_row(attention, found, site) for site in SITES]
        rows += [_attention_row(name, UNSEEN_ATTENTION, [_UNSEEN], activation=None, macs=0) for name in probe.unseen]
        return rows + [_unseen_row(name) for name in probe.softmaxes if name not in probe.unseen]


def _site_row(attention: AttentionPlan, seen: AttentionProbe, site: str) -> dict[str, Any]:
    spec = attention.spec(site)
    why = [reason for place, reason in attention.why if place == site]
    if seen.calls > 1:
        why.append(f"shared by {seen.calls} calls")
    return _attention_row(seen.name, site, why, activation=asdict(spec) if spec else None, macs=seen.macs(site))


_UNSEEN = "has to_q, to_k and to_v, and no scaled_dot_product_attention: its products stay in floating point, uncounted"


def _unseen_row(name: str) -> dict[str, Any]:
    why = "outside scaled_dot_product_attention: if this is an attention, its products stay in floating point, uncounted"
    return _attention_row(name, "unseen softmax", [why], activation=None, macs=0)


def _attention_row(name: str, site: str, why: list[str], **fields: Any) -> dict[str, Any]:
    """A row with the keys of a layer's row, so that readers of the ledger need not ask first."""
    common: dict[str, Any] = {
        "name": name,
        "kind": ATTENTION,
        "site": site,
        "weight": None,
        "partitions": [],
        "weight_shape": [],
    }
    return {**common, "why": why, **fields}


def check_weights(plan: Plan, probe: Probe) -> None:
    """Weights are rounded where it is known what becomes of them. Raises `CellFailedError` naming the layers at fault."""
    odd = [seen.name for layer, seen in zip(plan.layers, probe.layers, strict=True) if layer.weight and not seen.plain]
    if odd:
        raise CellFailedError(
            "weights cannot be rounded in layers that do something else with them than torch's layers of their kind: "
            f"{', '.join(odd[:3])}{f' and {len(odd) - 3} more' if len(odd) > 3 else ''}",
            "put plain layers in their place, with the weights that they compute with, or leave them in full precision "
            "(the pass float-layers)",
        )


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
