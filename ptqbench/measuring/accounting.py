"""The bit ledger: what "W4A8" meant in each layer and attention, and what the quantized denoiser would weigh.

A weight costs its bits (padded to whole bytes per layer partition) plus one scale and one zero point per row, a zero point
taking as many bits as a code; activation grids cost a scale and a zero point for each row and step group. Biases, norms,
embeddings, layers that stay in full precision and what sampler hooks keep cost four bytes a value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

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

FLOATING = (
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Bilinear,
    nn.MultiheadAttention,
)
"""Layers with a weight matrix that are never quantized. Of torch's MultiheadAttention it is what makes q, k and v."""

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

    Layers that never ran stand in it too, and those of kinds that are never quantized, in full precision.
    """
    rows = []
    for row in plan.ledger(probe):
        if row["kind"] == ATTENTION:
            rows.append(row | {"weights": 0, "weight_bytes": 0, "activation_bytes": _site_bytes(row, q)})
            continue
        layer = q.layers[row["name"]]
        bytes_of = {"weight_bytes": _weight_bytes(layer), "activation_bytes": _activation_bytes(layer)}
        rows.append(row | {"weights": layer.weight.numel()} | bytes_of)
    rows += float_rows(denoiser, rows)
    return BitLedger(rows, other_bytes(denoiser, rows), FLOAT_BYTES * hook_values)


def other_bytes(denoiser: nn.Module, rows: Iterable[Mapping[str, Any]]) -> int:
    """Bytes of the parameters that are no weight of a layer in these rows. A weight that a quantized layer shares with what has
    no row is needed there too."""
    layers = {denoiser.get_submodule(row["name"]): row["weight"] is None for row in rows if row["kind"] != ATTENTION}
    others: set[nn.Parameter] = set()
    for module in denoiser.modules():
        own = _weights(module) if module in layers else ()
        others.update(p for name, p in module.named_parameters(recurse=False) if name not in own)
    # What stays in floating point is in its layer's row, and serves whatever shares it.
    others.difference_update(weight for layer, kept in layers.items() if kept for weight in _weights(layer).values())
    # A weight that is computed from other parameters stands in for as many of these.
    weights = [weight for layer in layers for weight in _weights(layer).values()]
    computed = sum(weight.numel() for weight in weights if not isinstance(weight, nn.Parameter))
    return FLOAT_BYTES * (sum(p.numel() for p in others) - computed)


def float_rows(denoiser: nn.Module, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row in full precision for each layer with a weight matrix that has none among these rows."""
    called = {row["name"] for row in rows if row["kind"] != ATTENTION}
    modules = denoiser.named_modules()
    return [_float_row(name, m) for name, m in modules if isinstance(m, (*QUANTIZABLE, *FLOATING)) and name not in called]


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


def _weights(module: nn.Module) -> dict[str, Tensor]:
    """A layer's weights by name."""
    names = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
    found = {name: getattr(module, name) for name in (names if isinstance(module, nn.MultiheadAttention) else ("weight",))}
    return {name: weight for name, weight in found.items() if weight is not None}


def _why_float(module: nn.Module) -> str:
    if isinstance(module, FLOATING):
        return "no layer of this kind is quantized; its multiply-accumulates are not counted"
    if isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear):
        return "never called: torch's MultiheadAttention reads its weight; its multiply-accumulates are not counted"
    return "never called in a forward pass"


def _float_row(name: str, module: nn.Module) -> dict[str, Any]:
    weights = list(_weights(module).values())
    count = sum(weight.numel() for weight in weights)
    return {
        "name": name,
        "kind": type(module).__name__,
        "weight": None,
        "activation": None,
        "partitions": [],
        "why": [_why_float(module)],
        "weight_shape": list(weights[0].shape),
        "macs": 0,
        "weights": count,
        "weight_bytes": FLOAT_BYTES * count,
        "activation_bytes": 0,
    }
