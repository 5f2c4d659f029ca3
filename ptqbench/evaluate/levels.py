"""The range of decoded images: -1..1, and mapped to 8 bit in one place (`ptqbench.sampling.sample.to_bytes`)."""

from __future__ import annotations

import torch
from torch import Tensor

from ptqbench.errors import CellFailedError, UserError

ENOUGH = 8
"""Images among which at least one value lies below mid-grey, whatever they show."""


def require_decoded_range(images: Tensor) -> None:
    """Raises `UserError` if full precision's decoded images (N, C, H, W) were mapped to 0..1 or 0..255 already.

    Mapped once more they would be pale or white, and every metric would still give a number. A set of fewer than `ENOUGH`
    images may be bright by nature and is let through.
    """
    least, most = float(images.min()), float(images.max())
    if len(images) < ENOUGH or least < 0:
        return
    raise UserError(
        f"{len(images)} decoded images have values from {least:.3g} to {most:.3g}, and none below 0: expected is -1 to 1, "
        "so their range was mapped already",
        "let the model's decode() return images in [-1, 1] and leave the mapping to 8 bit to ptqbench "
        "(diffusers' image processor: do_denormalize = False)",
    )


def require_bytes(images: Tensor) -> None:
    """Raises `CellFailedError` for images that are not 8 bit: an extractor maps ranges on its own and would do so twice."""
    if images.dtype != torch.uint8:
        raise CellFailedError(
            f"images for features are {str(images.dtype).removeprefix('torch.')}, not uint8: what their range is nobody knows",
            "return uint8 from reference_images(), as read from files without any mapping",
        )
