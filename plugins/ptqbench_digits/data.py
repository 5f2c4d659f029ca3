"""The UCI digits as scikit-learn ships them, enlarged from 8x8 to 16x16 pixels, and the classifier's split."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

CLASSES = 10
SIZE = 16
SPLIT_SEED = 20
HELD_OUT_SHARE = 0.2
_LEVELS = 16.0  # the files store ink as 0..16
_KEYS = -0.5  # Catmull-Rom, the smoothest-looking member of Keys' family of cubic kernels


def _kernel(distance: float) -> float:
    """Keys' cubic interpolation kernel at a distance in source pixels."""
    d = abs(distance)
    if d <= 1.0:
        return (_KEYS + 2.0) * d**3 - (_KEYS + 3.0) * d**2 + 1.0
    if d < 2.0:
        return _KEYS * (d**3 - 5.0 * d**2 + 8.0 * d - 4.0)
    return 0.0


def enlarging_matrix(source: int, target: int) -> np.ndarray:
    """Cubic interpolation along one axis as a matrix (target, source), float64; pixels beyond the edge repeat the edge.

    For the factor 2 every entry is a binary fraction, so products with small integers are exact on every machine.
    """
    matrix = np.zeros((target, source), dtype=np.float64)
    for row in range(target):
        centre = (row + 0.5) * source / target - 0.5
        first = int(np.floor(centre)) - 1
        for column in range(first, first + 4):
            matrix[row, min(max(column, 0), source - 1)] += _kernel(centre - column)
    return matrix


@functools.cache
def _arrays() -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (1797, 1, 16, 16) and labels int64 (1797,), in the order of the data set."""
    from sklearn.datasets import load_digits  # its import takes about a second

    raw, labels = load_digits(return_X_y=True)
    side = int(np.sqrt(raw.shape[1]))
    axis = enlarging_matrix(side, SIZE)
    enlarged = axis @ raw.reshape(-1, side, side).astype(np.float64) @ axis.T
    images = np.rint(np.clip(enlarged, 0.0, _LEVELS) * (255.0 / _LEVELS)).astype(np.uint8)
    return images[:, None], labels.astype(np.int64)


def digit_images() -> Tensor:
    """All images, uint8 (1797, 1, 16, 16), ink bright on a black ground; a fresh tensor at each call."""
    return torch.from_numpy(_arrays()[0].copy())


def digit_labels() -> Tensor:
    """The digit that each image shows, int64 (1797,)."""
    return torch.from_numpy(_arrays()[1].copy())


def to_float(images: Tensor) -> Tensor:
    """Images uint8 in 0..255 as float32 in [-1, 1], same shape."""
    return images.to(torch.float32) / 127.5 - 1.0


def to_bytes(images: Tensor) -> Tensor:
    """Images float in [-1, 1] (clamped to it) as uint8 in 0..255, same shape."""
    return ((images.clamp(-1.0, 1.0) + 1.0) * 127.5).round().to(torch.uint8)


def split() -> tuple[Tensor, Tensor]:
    """Indices int64 of the classifier's training (1437) and held-out (360) images: seeded, stratified by digit."""
    from sklearn.model_selection import train_test_split

    labels = _arrays()[1]
    train, held_out = train_test_split(
        np.arange(len(labels)), test_size=HELD_OUT_SHARE, random_state=SPLIT_SEED, stratify=labels
    )
    return torch.from_numpy(np.sort(train)), torch.from_numpy(np.sort(held_out))
