"""Packed integers: every width, against a bit-by-bit writer, and what is not packed."""

from __future__ import annotations

import pytest
import torch

from ptqbench.quant.packing import Packing, pack, unpack


def written_out(values: list[int], bits: int, low: int) -> list[int]:
    """The bytes, one bit at a time."""
    found = [0] * -(-len(values) * bits // 8)
    for i, value in enumerate(values):
        for k in range(bits):
            place = i * bits + k
            found[place // 8] |= (value - low >> k & 1) << (place % 8)
    return found


@pytest.mark.parametrize("bits", range(1, 17))
@pytest.mark.parametrize("low", [0, -3, -(1 << 15)])
@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.float32])
def test_integers_take_their_own_width_and_come_back(bits, low, dtype):
    g = torch.Generator().manual_seed(bits)
    values = torch.randint(low, low + (1 << bits), (3, 7, 2), generator=g)
    values[0, 0] = torch.tensor([low, low + (1 << bits) - 1])
    if int(values.max()) >= 1 << 15 and dtype == torch.int16:
        pytest.skip("they do not fit this type")
    packed, packing = pack(values.to(dtype))
    assert packing == Packing(bits, low, (3, 7, 2), str(dtype).removeprefix("torch."))
    assert packed.tolist() == written_out(values.flatten().tolist(), bits, low)
    back = unpack(packed, packing)
    assert back.dtype == dtype and torch.equal(back, values.to(dtype))


def test_a_four_bit_code_takes_half_a_byte_and_equal_values_take_none():
    codes = torch.arange(16, dtype=torch.int16).repeat(8)
    assert pack(codes)[0].numel() == len(codes) / 2
    packed, packing = pack(torch.full((5, 1), 7.0))
    assert (packed.numel(), packing.bits) == (0, 0)
    assert unpack(packed, packing).tolist() == [[7.0]] * 5
    packed, packing = pack(torch.empty(0, 4, dtype=torch.int16))
    assert unpack(packed, packing).shape == (0, 4)


@pytest.mark.parametrize("values", [[0.5], [1.0, -0.0], [float("nan")], [float("inf")], [0.0, 70_000.0], [2.0**25]])
def test_what_would_not_come_back_is_not_packed(values):
    assert pack(torch.tensor(values)) is None


def test_too_few_bytes_are_refused():
    packed, packing = pack(torch.arange(9))
    with pytest.raises(ValueError, match="4 bytes for 9 values of 4 bits"):
        unpack(packed[:-1], packing)
