"""A picture of samples: one row per method, the same noise in every column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

TILE = 64
"""Least side of a sample on the picture, in pixels: smaller images are enlarged by a whole factor."""

GAP = 2
MARGIN = 8
FONT_SIZE = 14
INK = (32, 32, 32)


def gallery(rows: Sequence[tuple[str, ArrayLike]], *, columns: int = 16) -> Image.Image:
    """Rows of samples with their labels at the left, as an RGB picture on white.

    Each row is a label and images (K, C, H, W) uint8 with C = 1 (grey) or 3 (RGB); the first `columns` are shown. All
    rows have one H and W. Raises `ValueError` for no rows, other shapes or other types.
    """
    tiles = [(label, _pixels(images)[:columns]) for label, images in rows]
    if not tiles or len({tile.shape[1:] for _, tile in tiles}) != 1:
        raise ValueError("a gallery needs at least one row, and images of one size in all rows")
    height, width = tiles[0][1].shape[1:3]
    factor = max(1, math.ceil(TILE / min(height, width)))
    font = ImageFont.load_default(FONT_SIZE)
    left = label_width([label for label, _ in tiles])
    across = max(len(images) for _, images in tiles)
    right = left + across * (width * factor + GAP) - GAP + MARGIN
    bottom = len(tiles) * (height * factor + GAP) - GAP + 2 * MARGIN
    picture = Image.new("RGB", (right, bottom), "white")
    draw = ImageDraw.Draw(picture)
    for row, (label, images) in enumerate(tiles):
        top = MARGIN + row * (height * factor + GAP)
        draw.text((MARGIN, top + height * factor // 2), label, fill=INK, font=font, anchor="lm")
        for column, image in enumerate(images):
            tile = Image.fromarray(image).resize((width * factor, height * factor), Image.Resampling.NEAREST)
            picture.paste(tile, (left + column * (width * factor + GAP), top))
    return picture


def label_width(labels: Sequence[str]) -> int:
    """Pixels that the widest label takes, with a margin on both sides: where the samples begin."""
    font = ImageFont.load_default(FONT_SIZE)
    return math.ceil(max(font.getlength(label) for label in labels)) + 2 * MARGIN


def save_gallery(path: Path, rows: Sequence[tuple[str, ArrayLike]], *, columns: int = 16) -> None:
    """Write the gallery as a PNG file."""
    gallery(rows, columns=columns).save(path, format="PNG", optimize=True)


def _pixels(images: ArrayLike) -> NDArray[np.uint8]:
    """(K, H, W, 3) of images (K, C, H, W)."""
    array = np.asarray(images)
    if array.ndim != 4 or array.shape[1] not in (1, 3) or array.dtype != np.uint8 or len(array) == 0:
        raise ValueError(f"a row of a gallery is (K, 1 or 3, H, W) uint8, not {array.shape} {array.dtype}")
    return np.ascontiguousarray(np.broadcast_to(array, (len(array), 3, *array.shape[2:])).transpose(0, 2, 3, 1))
