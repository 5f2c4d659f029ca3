"""Room for large tensors in files."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest
import torch

from ptqbench.errors import CellFailedError
from ptqbench.stage import spill


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setattr(spill, "SPILL_FROM", 1000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def mapped(tensor: torch.Tensor, folder: Path) -> bool:
    """Whether the tensor's memory belongs to a file of that folder."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, high = (int(end, 16) for end in line.split()[0].split("-"))
        if low <= tensor.data_ptr() < high:
            return str(folder) in line
    raise AssertionError("not mapped at all")


@pytest.mark.parametrize("axes", [[0, 1, 2, 3], [0, 2, 3, 1]])
@pytest.mark.parametrize("count", [10, 100])
def test_tensors_are_the_same_in_a_file(folder, axes, count):
    made = spill.room((count, 3, 2, 2), torch.float32, axes)
    plain = torch.empty_permuted((count, 3, 2, 2), axes)
    assert (made.shape, made.stride(), made.dtype) == (plain.shape, plain.stride(), plain.dtype)
    values = torch.randn(plain.shape)
    made[:] = values
    assert torch.equal(made, values)
    index = torch.tensor([5, 2, 9])
    assert torch.equal(made[index], values[index])


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped")
def test_large_ones_lie_in_a_file_without_a_name(folder):
    assert mapped(spill.room((250,), torch.float32, [0]), folder)
    assert not mapped(spill.room((249,), torch.float32, [0]), folder)
    assert not list(folder.iterdir())


def test_a_disk_without_room_is_told_before_anything_is_written(folder, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(CellFailedError, match=r"no room in .*No space left") as error:
        spill.room((2**20, 3), torch.float32, [0, 1])
    assert "12 MiB" in str(error.value)
    assert "TMPDIR" in error.value.hint
    assert not list(folder.iterdir())
