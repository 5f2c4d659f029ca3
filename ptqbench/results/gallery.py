"""A picture of samples: one row per method, the same noise in every column, and what differs from full precision."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

TILE = 64
"""Least side of a sample on the picture, in pixels: smaller images are enlarged by a whole factor."""

GAP = 2
MARGIN = 8
BETWEEN = 24
"""Pixels between the samples and their differences."""

HEADING = 28
AMPLIFIED = 4
"""How many times brighter a difference is drawn than it is: quantized samples look alike otherwise."""

FONT_SIZE = 14
INK = (32, 32, 32)


def gallery(rows: Sequence[tuple[str, ArrayLike]], *, columns: int = 8) -> Image.Image:
    """Rows of samples with their labels at the left and their differences to the first row at the right, RGB on white.

    Each row is a label and images (K, C, H, W) uint8 with C = 1 (grey) or 3 (RGB); the first `columns` are shown. The first
    row is full precision's; of the others |image - first row's| is drawn `AMPLIFIED` times as bright. All rows have one H
    and W. Raises `ValueError` for no rows, other shapes or other types.
    """
    tiles = [(label, _pixels(images)[:columns]) for label, images in rows]
    if not tiles or len({tile.shape[1:] for _, tile in tiles}) != 1:
        raise ValueError("a gallery needs at least one row, and images of one size in all rows")
    height, width = tiles[0][1].shape[1:3]
    factor = max(1, math.ceil(TILE / min(height, width)))
    left = label_width([label for label, _ in tiles])
    across = max(len(images) for _, images in tiles) * (width * factor + GAP) - GAP
    second = left + across + BETWEEN
    bottom = HEADING + len(tiles) * (height * factor + GAP) - GAP + MARGIN
    font = ImageFont.load_default(FONT_SIZE)
    heading = f"difference to {tiles[0][0]} x {AMPLIFIED}"
    right = second + max(across, math.ceil(font.getlength(heading))) + MARGIN
    picture = Image.new("RGB", (right, bottom), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((left, HEADING // 2), "samples", fill=INK, font=font, anchor="lm")
    draw.text((second, HEADING // 2), heading, fill=INK, font=font, anchor="lm")
    for row, (label, images) in enumerate(tiles):
        top = HEADING + row * (height * factor + GAP)
        draw.text((MARGIN, top + height * factor // 2), label, fill=INK, font=font, anchor="lm")
        _draw(picture, images, left, top, factor)
        if row:
            _draw(picture, _difference(images, tiles[0][1]), second, top, factor)
    return picture


def _draw(picture: Image.Image, images: NDArray[np.uint8], left: int, top: int, factor: int) -> None:
    """Images (K, H, W, 3) in a row, enlarged."""
    for column, image in enumerate(images):
        height, width = image.shape[0] * factor, image.shape[1] * factor
        tile = Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST)
        picture.paste(tile, (left + column * (width + GAP), top))


def _difference(images: NDArray[np.uint8], reference: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The amplified absolute difference of as many images as both have."""
    count = min(len(images), len(reference))
    apart = np.abs(images[:count].astype(np.int32) - reference[:count].astype(np.int32))
    return np.minimum(AMPLIFIED * apart, 255).astype(np.uint8)


def label_width(labels: Sequence[str]) -> int:
    """Pixels that the widest label takes, with a margin on both sides: where the samples begin."""
    font = ImageFont.load_default(FONT_SIZE)
    return math.ceil(max(font.getlength(label) for label in labels)) + 2 * MARGIN


def _pixels(images: ArrayLike) -> NDArray[np.uint8]:
    """(K, H, W, 3) of images (K, C, H, W)."""
    array = np.asarray(images)
    if array.ndim != 4 or array.shape[1] not in (1, 3) or array.dtype != np.uint8 or len(array) == 0:
        raise ValueError(f"a row of a gallery is (K, 1 or 3, H, W) uint8, not {array.shape} {array.dtype}")
    return np.ascontiguousarray(np.broadcast_to(array, (len(array), 3, *array.shape[2:])).transpose(0, 2, 3, 1))
