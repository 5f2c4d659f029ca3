"""The bit ledger: what "W4A8" meant in each layer, and what the quantized denoiser would weigh.

A weight costs its bits (padded to whole bytes per layer partition) plus one scale and one zero point per row, a zero point
taking as many bits as a code; activation grids cost a scale and a zero point for each row and step group. Biases, norms,
embeddings and layers that stay in full precision cost four bytes a value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

from ptqbench.engine.cache import content_key
from ptqbench.quant.layer import QuantLayer
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import Plan, Probe
from ptqbench.quant.probe import QUANTIZABLE

FLOAT_BYTES = 4
"""A float32 value, also a scale."""
FLOAT_BITS = 32


@dataclass(frozen=True)
class BitLedger:
    """A row for each layer, and the bytes of everything that is not a layer's weight or grid.

    Rows have the layer's name, kind, grids, partitions, exceptions, multiply-accumulates, and "weight_bytes" (codes,
    scales, zero points) and "activation_bytes" (scales, zero points).
    """

    rows: list[dict[str, Any]]
    other_bytes: int

    @property
    def bytes(self) -> int:
        """Bytes of the quantized denoiser: the rows and the rest."""
        return self.other_bytes + sum(row["weight_bytes"] + row["activation_bytes"] for row in self.rows)

    @property
    def hash(self) -> str:
        """Changes with any layer's bits, granularity, partition or exception."""
        return content_key(self.rows, self.other_bytes)[:12]

    @property
    def summary(self) -> dict[str, float]:
        """Average bits (weights by count, activations by multiply-accumulates), bit operations, bytes."""
        weights = sum(row["weights"] for row in self.rows)
        macs = sum(row["macs"] for row in self.rows)
        return {
            "average weight bits": sum(row["weights"] * _bits(row["weight"]) for row in self.rows) / max(1, weights),
            "average activation bits": sum(row["macs"] * _bits(row["activation"]) for row in self.rows) / max(1, macs),
            "bops": float(sum(row["macs"] * _bits(row["weight"]) * _bits(row["activation"]) for row in self.rows)),
            "other bytes": float(self.other_bytes),
            "bytes": float(self.bytes),
        }


def bit_ledger(denoiser: nn.Module, probe: Probe, plan: Plan, q: QuantizedDenoiser) -> BitLedger:
    """The ledger of a quantized denoiser. Layers that never ran stand in it too, in full precision."""
    rows = []
    for row in plan.ledger(probe):
        layer = q.layers[row["name"]]
        bytes_of = {"weight_bytes": _weight_bytes(layer), "activation_bytes": _activation_bytes(layer)}
        rows.append(row | {"weights": layer.weight.numel()} | bytes_of)
    called = {row["name"] for row in rows}
    rows += [
        _uncalled(name, module)
        for name, module in denoiser.named_modules()
        if isinstance(module, QUANTIZABLE) and name not in called
    ]
    return BitLedger(rows, float_bytes(denoiser) - sum(FLOAT_BYTES * row["weights"] for row in rows))


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
    quantizers = [part.activation for part in layer.partitions() if part.activation is not None]
    return sum(_grid_bytes(quantizer.spec.bits, quantizer.export()["scale"].numel()) for quantizer in quantizers)


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
