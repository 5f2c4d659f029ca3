"""What a number of bits in the options of a pass does to a grid."""

from __future__ import annotations

from dataclasses import replace

from ptqbench.quant.grid import QuantSpec

KEEP, FLOAT = 0, 32


def with_bits(spec: QuantSpec | None, bits: int) -> QuantSpec | None:
    """`spec` with `bits`; `KEEP` leaves it, `FLOAT` takes the grid away, and what has none (None) gets none."""
    if spec is None or bits == KEEP:
        return spec
    return None if bits == FLOAT else replace(spec, bits=bits)
