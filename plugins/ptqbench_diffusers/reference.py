"""The option `reference`: real images of the model's size for comparison with generated ones."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ptqbench.evaluate import pictures

SETTING = "model.reference"


def reference_files(path: Path) -> dict[str, Path]:
    """The files that hold reference images, by name. Raises `UserError` if there are none."""
    return pictures.reference_files(path, SETTING)


def read_reference(path: Path, shape: tuple[int, int, int]) -> Tensor:
    """All reference images, (N, C, H, W) uint8, in the order of their names.

    Raises `UserError` if one is unreadable or its size or channels are not those of `shape`.
    """
    return torch.cat(list(pictures.open_pictures(path, shape, SETTING)))
