"""Small tensors in one: each comes back bit for bit."""

from __future__ import annotations

import pytest
import torch

from ptqbench.api.pieces import join, split


def test_every_type_and_shape_comes_back():
    tensors = {
        "bytes": torch.arange(3, dtype=torch.uint8),
        "floats behind three bytes": torch.tensor([[-0.0, float("nan")], [float("inf"), 1e-40]]),
        "one number": torch.tensor(7, dtype=torch.int64),
        "nothing": torch.empty(0, 4, dtype=torch.int16),
        "turned": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).T,
        "truths": torch.tensor([True, False]),
    }
    together, pieces = join(tensors)
    assert together.numel() == 3 + 16 + 8 + 0 + 12 + 2
    assert together[3:19].numpy().tobytes() == tensors["floats behind three bytes"].numpy().tobytes()
    back = split(together, pieces)
    assert list(back) == list(tensors)
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype and back[name].shape == tensor.shape
        assert join({name: back[name]})[0].tolist() == join({name: tensor})[0].tolist()


def test_no_tensors_are_no_bytes():
    together, pieces = join({})
    assert (together.numel(), pieces, split(together, pieces)) == (0, [], {})


def test_too_few_bytes_are_refused():
    together, pieces = join({"a": torch.zeros(3)})
    with pytest.raises(ValueError, match="11 bytes for 1 tensors of 12 bytes"):
        split(together[:-1], pieces)
