"""What a quantized denoiser would weigh: codes packed at their bits, scales, zero points, and what stays in float32."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from ptqbench.quant.model import QuantizedDenoiser

SCALE_BYTES = 4
"""A float32 scale."""


@dataclass(frozen=True)
class Sizes:
    """Bytes of the denoiser's parameters: quantized (packed) and in full precision (float32)."""

    quantized: int
    full_precision: int


def packed_bytes(denoiser: nn.Module, q: QuantizedDenoiser | None) -> Sizes:
    """Sizes of the original denoiser and of its quantized copy (equal if there is none).

    A weight costs its bits (padded to whole bytes per layer partition) plus one scale and one zero point per row, a zero
    point taking as many bits as a code; activation grids cost a scale and a zero point each. Biases, norms and layers that
    stay in full precision cost four bytes a value.
    """
    full = sum(4 * p.numel() for p in denoiser.parameters())
    if q is None:
        return Sizes(full, full)
    total = full
    for layer in q.layers.values():
        for part in layer.partitions():
            if part.weight is not None:
                bits, values = part.weight.spec.bits, layer.weight[:, part.start : part.stop].numel()
                rows = part.weight.export()["scale"].numel()
                total += math.ceil(bits * values / 8) + _grid_bytes(bits, rows) - 4 * values
            if part.activation is not None:
                total += _grid_bytes(part.activation.spec.bits, part.activation.export()["scale"].numel())
    return Sizes(total, full)


def _grid_bytes(bits: int, rows: int) -> int:
    return SCALE_BYTES * rows + math.ceil(bits * rows / 8)
