"""The data: shapes, range, determinism, split."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits

from ptqbench_digits import data


def test_images_have_shape_range_and_no_shared_memory() -> None:
    images = data.digit_images()
    assert images.shape == (1797, 1, 16, 16)
    assert images.dtype == torch.uint8
    assert images.min() == 0
    assert images.max() == 255
    first = images.clone()
    images.zero_()
    assert torch.equal(data.digit_images(), first)


def test_images_do_not_change_between_computations() -> None:
    before = data.digit_images()
    data._arrays.cache_clear()
    assert torch.equal(data.digit_images(), before)


def test_enlarging_keeps_constants_and_the_mean_ink() -> None:
    matrix = data.enlarging_matrix(8, 16)
    assert np.array_equal(matrix.sum(axis=1), np.ones(16))
    raw = load_digits().images / 16.0
    enlarged = data.digit_images().double() / 255.0
    assert abs(float(enlarged.mean()) - raw.mean()) < 0.01


def test_float_and_bytes_are_inverse() -> None:
    images = data.digit_images()
    floats = data.to_float(images)
    assert floats.dtype == torch.float32
    assert floats.min() == -1.0
    assert floats.max() == 1.0
    assert torch.equal(data.to_bytes(floats), images)


def test_split_is_disjoint_complete_stratified_and_fixed() -> None:
    train, held_out = data.split()
    assert sorted(torch.cat([train, held_out]).tolist()) == list(range(1797))
    assert len(held_out) == 360
    share = data.digit_labels()[held_out].bincount() / data.digit_labels().bincount()
    assert torch.all((share - 0.2).abs() < 0.01)
    assert torch.equal(data.split()[1], held_out)
