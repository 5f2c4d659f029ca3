"""The bit ledger: what "W4A8" meant in each layer and attention, and what the quantized denoiser would weigh.

A weight costs its bits (padded to whole bytes per layer partition) plus one scale and one zero point per row, a zero point
taking as many bits as a code; activation grids cost a scale and a zero point for each row and step group. Biases, norms,
embeddings, layers that stay in full precision and what sampler hooks keep cost four bytes a value.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from torch import nn

from ptqbench.quant.layer import QuantLayer
from ptqbench.quant.ledger import ATTENTION
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import Plan, Probe
from ptqbench.quant.probe import QUANTIZABLE
from ptqbench.results.record import HOOK_BYTES
from ptqbench.roles.quantizer import Quantizer
from ptqbench.stage.cache import content_key

FLOAT_BYTES = 4
"""A float32 value, also a scale."""
FLOAT_BITS = 32

MULTIPLIED = {"q": "k", "softmax": "v"}
"""The operands of an attention's two products, by site."""


@dataclass(frozen=True)
class BitLedger:
    """A row for each layer and each site of an attention, and the bytes of everything that is no layer's weight and no grid.

    Rows have the layer's name, kind, grids, partitions, exceptions, multiply-accumulates, and "weight_bytes" (codes,
    scales, zero points) and "activation_bytes" (scales, zero points). Rows of kind `ATTENTION` have a "site" and no weights.
    `hook_bytes` are those of the sampler hooks' tables.
    """

    rows: list[dict[str, Any]]
    other_bytes: int
    hook_bytes: int = 0

    @property
    def bytes(self) -> int:
        """Bytes of the quantized denoiser: the rows and the rest."""
        return self.other_bytes + self.hook_bytes + sum(row["weight_bytes"] + row["activation_bytes"] for row in self.rows)

    @property
    def quantized_bytes(self) -> int:
        """Bytes of codes, scales and zero points, without what layers or weights in floating point take."""
        return sum(row["activation_bytes"] + (row["weight_bytes"] if row["weight"] else 0) for row in self.rows)

    @property
    def float_bytes(self) -> int:
        """Bytes of what stays in floating point, hooks included."""
        return self.bytes - self.quantized_bytes

    @property
    def hash(self) -> str:
        """Changes with any layer's bits, granularity, partition or exception, and with the size of hooks."""
        hooks = [self.hook_bytes] if self.hook_bytes else []
        return content_key(self.rows, self.other_bytes, *hooks)[:12]

    @property
    def summary(self) -> dict[str, float]:
        """Average bits (weights by count, activations by multiply-accumulates), bit operations, bytes; "hook bytes" if any.

        An activation counts as often as it is multiplied, and both operands of an attention's products are activations. Bit
        operations are multiply-accumulates times the bits of the one operand times those of the other.
        """
        weights = sum(row["weights"] for row in self.rows)
        macs = sum(row["macs"] for row in self.rows)
        return {
            "average weight bits": sum(row["weights"] * _bits(row["weight"]) for row in self.rows) / max(1, weights),
            "average activation bits": sum(row["macs"] * _bits(row["activation"]) for row in self.rows) / max(1, macs),
            "bops": float(self._layer_bops() + self._attention_bops()),
            "other bytes": float(self.other_bytes),
            "bytes": float(self.bytes),
        } | ({HOOK_BYTES: float(self.hook_bytes)} if self.hook_bytes else {})

    def _layer_bops(self) -> int:
        layers = (row for row in self.rows if row["kind"] != ATTENTION)
        return sum(row["macs"] * _bits(row["weight"]) * _bits(row["activation"]) for row in layers)

    def _attention_bops(self) -> int:
        operands = {(row["name"], row["site"]): row for row in self.rows if row["kind"] == ATTENTION}
        return sum(
            row["macs"] * _bits(row["activation"]) * _bits(operands[name, MULTIPLIED[site]]["activation"])
            for (name, site), row in operands.items()
            if site in MULTIPLIED
        )


def bit_ledger(denoiser: nn.Module, probe: Probe, plan: Plan, q: QuantizedDenoiser, hook_values: int = 0) -> BitLedger:
    """The ledger of a quantized denoiser, whose sampler hooks keep `hook_values` numbers.

    Layers that never ran stand in it too, in full precision.
    """
    rows = []
    for row in plan.ledger(probe):
        if row["kind"] == ATTENTION:
            rows.append(row | {"weights": 0, "weight_bytes": 0, "activation_bytes": _site_bytes(row, q)})
            continue
        layer = q.layers[row["name"]]
        bytes_of = {"weight_bytes": _weight_bytes(layer), "activation_bytes": _activation_bytes(layer)}
        rows.append(row | {"weights": layer.weight.numel()} | bytes_of)
    rows += uncalled_rows(denoiser, {row["name"] for row in rows})
    other = float_bytes(denoiser) - sum(FLOAT_BYTES * row["weights"] for row in rows)
    return BitLedger(rows, other, FLOAT_BYTES * hook_values)


def uncalled_rows(denoiser: nn.Module, called: Collection[str]) -> list[dict[str, Any]]:
    """A row in full precision for each layer that is not among those that are `called`."""
    modules = denoiser.named_modules()
    return [_uncalled(name, module) for name, module in modules if isinstance(module, QUANTIZABLE) and name not in called]


def float_bytes(denoiser: nn.Module) -> int:
    """Bytes of a denoiser's parameters in full precision."""
    return sum(FLOAT_BYTES * p.numel() for p in denoiser.parameters())


def _bits(spec: dict[str, Any] | None) -> int:
    return FLOAT_BITS if spec is None else int(spec["bits"])


def _weight_bytes(layer: QuantLayer) -> int:
    total = 0
    for part in layer.partitions():
        values = layer.weight[:, part.start : part.stop].numel()
        if part.weight is None:
            total += FLOAT_BYTES * values
            continue
        bits = part.weight.spec.bits
        total += math.ceil(bits * values / 8) + _grid_bytes(bits, part.weight.export()["scale"].numel())
    return total


def _activation_bytes(layer: QuantLayer) -> int:
    return sum(_quantizer_bytes(part.activation) for part in layer.partitions() if part.activation is not None)


def _site_bytes(row: dict[str, Any], q: QuantizedDenoiser) -> int:
    """Bytes of an attention site's grid; a site in floating point has none."""
    return 0 if row["activation"] is None else _quantizer_bytes(q.attentions[row["name"]].quantizers[row["site"]])


def _quantizer_bytes(quantizer: Quantizer) -> int:
    return _grid_bytes(quantizer.spec.bits, quantizer.export()["scale"].numel())


def _grid_bytes(bits: int, rows: int) -> int:
    return FLOAT_BYTES * rows + math.ceil(bits * rows / 8)


def _uncalled(name: str, module: nn.Module) -> dict[str, Any]:
    weight: Any = module.weight
    return {
        "name": name,
        "kind": type(module).__name__,
        "weight": None,
        "activation": None,
        "partitions": [],
        "why": ["never called in a forward pass"],
        "weight_shape": list(weight.shape),
        "macs": 0,
        "weights": weight.numel(),
        "weight_bytes": FLOAT_BYTES * weight.numel(),
        "activation_bytes": 0,
    }
