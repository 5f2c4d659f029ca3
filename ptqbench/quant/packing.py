"""Integers at their own width: a tensor of four-bit codes takes half a byte a value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

WIDEST = 16
"""Integers that need more bits than this are not packed."""


@dataclass(frozen=True)
class Packing:
    """How integers lie in bytes: value i is `low` plus the unsigned number in bits [i * bits, (i + 1) * bits) of the stream.

    Bit k of the stream is bit k % 8, counted from the least, of byte k // 8. With `bits` 0 every value is `low` and there is no
    byte. `dtype` is torch's name of the type that the values had.
    """

    bits: int
    low: int
    shape: tuple[int, ...]
    dtype: str


def pack(values: Tensor) -> tuple[Tensor, Packing] | None:
    """Integral values, of any dtype, as bytes (uint8, one axis) at the least width that holds them all.

    None for values that are not integral (as -0.0 is not: it would come back as 0.0), or spread too far.
    """
    flat = values.detach().cpu().reshape(-1)
    if flat.is_floating_point() and not bool(((flat == flat.round()) & (flat.abs() < 2**24) & ~_minus_zero(flat)).all()):
        return None
    whole = flat.to(torch.int64)
    low, high = (int(whole.min()), int(whole.max())) if len(whole) else (0, 0)
    bits = (high - low).bit_length()
    if bits > WIDEST:
        return None
    packing = Packing(bits, low, tuple(values.shape), str(values.dtype).removeprefix("torch."))
    numbers = (whole - low).to(torch.int32).numpy()
    digits = (numbers[:, None] >> np.arange(bits, dtype=np.int32)) & 1
    return torch.from_numpy(np.packbits(digits.astype(np.uint8).reshape(-1), bitorder="little")), packing


def unpack(packed: Tensor, packing: Packing) -> Tensor:
    """Inverse of `pack`. Raises `ValueError` for too few or too many bytes."""
    count = int(np.prod(packing.shape, dtype=np.int64))
    if packed.numel() != -(-count * packing.bits // 8):
        raise ValueError(f"{packed.numel()} bytes for {count} values of {packing.bits} bits")
    digits = np.unpackbits(packed.numpy(), count=count * packing.bits, bitorder="little").reshape(count, packing.bits)
    numbers = digits.astype(np.int64) @ (1 << np.arange(packing.bits, dtype=np.int64)) + packing.low
    return torch.from_numpy(numbers).to(getattr(torch, packing.dtype)).reshape(packing.shape)


def _minus_zero(values: Tensor) -> Tensor:
    return (values == 0) & values.signbit()
