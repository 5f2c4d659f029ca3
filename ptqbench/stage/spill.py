"""Room for large tensors: in memory up to a size, in a temporary file that is mapped into memory beyond it.

Pages of such a file stay in memory while there is some to spare, and are given up where there is not: a recording may be
larger than the machine's memory.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence

import torch
from torch import Tensor

from ptqbench.errors import CellFailedError

SPILL_FROM = 512 * 2**20
"""Bytes from which a tensor lies in a file."""


def room(shape: Sequence[int], dtype: torch.dtype, axes: Sequence[int]) -> Tensor:
    """An uninitialised tensor on the host; `axes` is the order of its axes in memory, outermost first.

    Its file has no name any more and ends with it. Raises `CellFailedError` if the folder for temporary files has no room.
    """
    size = math.prod(shape)
    if size * dtype.itemsize < SPILL_FROM:
        return torch.empty_permuted(shape, list(axes), dtype=dtype, device="cpu")
    flat = _mapped(size, dtype).view([shape[axis] for axis in axes])
    return flat.permute(sorted(range(len(axes)), key=axes.__getitem__))


def _mapped(size: int, dtype: torch.dtype) -> Tensor:
    needed = size * dtype.itemsize
    with tempfile.NamedTemporaryFile(prefix="ptqbench-") as file:
        try:
            # A file with holes would end the process at the first write that finds the disk full.
            os.posix_fallocate(file.fileno(), 0, needed) if hasattr(os, "posix_fallocate") else file.truncate(needed)
        except OSError as error:
            raise CellFailedError(
                f"a recording of {needed / 2**20:.0f} MiB has no room in {tempfile.gettempdir()} ({error.strerror})",
                "name a folder on a larger disk in the environment variable TMPDIR, or lower calibration.samples",
            ) from error
        return torch.from_file(file.name, shared=True, size=size, dtype=dtype)
