"""Small tensors together in the bytes of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Piece:
    """A tensor in the bytes of several, which follow each other as they are listed; `dtype` is torch's name of its type."""

    name: str
    dtype: str
    shape: tuple[int, ...]


def join(tensors: Mapping[str, Tensor]) -> tuple[Tensor, list[Piece]]:
    """The bytes of all tensors (uint8, one axis), and what lies where in them."""
    pieces = [Piece(name, str(t.dtype).removeprefix("torch."), tuple(t.shape)) for name, t in tensors.items()]
    none = torch.empty(0, dtype=torch.uint8, device="cpu")
    return torch.cat([none, *(t.contiguous().reshape(-1).view(torch.uint8) for t in tensors.values())]), pieces


def split(together: Tensor, pieces: Sequence[Piece]) -> dict[str, Tensor]:
    """Inverse of `join`. Raises `ValueError` for too few or too many bytes."""
    dtypes: list[torch.dtype] = [getattr(torch, piece.dtype) for piece in pieces]
    sizes = [int(np.prod(p.shape, dtype=np.int64)) * dtype.itemsize for p, dtype in zip(pieces, dtypes, strict=True)]
    if together.numel() != sum(sizes):
        raise ValueError(f"{together.numel()} bytes for {len(pieces)} tensors of {sum(sizes)} bytes")
    parts = zip(pieces, dtypes, together.split(sizes), strict=True)
    # A copy, since a view of another type has to start at a multiple of its width.
    return {piece.name: part.clone().view(dtype).reshape(piece.shape) for piece, dtype, part in parts}
