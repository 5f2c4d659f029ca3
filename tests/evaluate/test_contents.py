"""Format, depth and checksums of reference images come from what files hold, not from what they are called."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from ptqbench.errors import UserError
from ptqbench.evaluate.archive import open_array, read_statistics
from ptqbench.evaluate.pictures import open_pictures

SHAPE = (3, 8, 8)
RNG = np.random.default_rng(0)


def pixels() -> np.ndarray:
    return RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)


def png(path: Path, depth: int) -> None:
    """An RGB picture of 8 x 8 with any depth, chunk by chunk: Pillow writes none of 16 bits."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 8, 8, depth, 2, 0, 0, 0)
    rows = b"".join(b"\0" + bytes(range(24 * depth // 8)) for _ in range(8))
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def test_what_no_decoder_knows_is_refused_as_well(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\0\0\0\x20ftypwhat" + bytes(64))
    with pytest.raises(UserError, match=r"a\.png"):
        open_pictures(tmp_path, SHAPE, "setting").part(0)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF", "AVIF"])
def test_what_is_a_png_by_its_name_only_is_refused_and_named(tmp_path, kind):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow knows no AVIF")
    Image.fromarray(pixels()).save(tmp_path / "a.png", format=kind)
    with pytest.raises(UserError, match=rf"a\.png is called \.png and is {kind}"):
        open_pictures(tmp_path, SHAPE, "setting").part(0)


def test_channels_of_16_bits_are_refused_and_those_of_8_are_read(tmp_path):
    png(tmp_path / "a.png", 8)
    assert open_pictures(tmp_path, SHAPE, "setting").part(0)[0, :, 0, 1].tolist() == [3, 4, 5]
    png(tmp_path / "a.png", 16)
    with pytest.raises(UserError, match="16 bits per channel"):
        open_pictures(tmp_path, SHAPE, "setting").part(0)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_byte_of_an_archive_is_caught(tmp_path, save):
    path = tmp_path / "real.npz"
    save(path, np.stack([pixels() for _ in range(20)]))
    assert open_pictures(path, SHAPE, "setting").part(0).shape == (20, *SHAPE)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"cannot read .*real\.npz"):
        open_pictures(path, SHAPE, "setting")


def test_a_flipped_byte_of_statistics_is_caught(tmp_path):
    path = tmp_path / "statistics.npz"
    np.savez(path, mu=np.zeros(4), sigma=np.eye(4))
    assert set(read_statistics(path, {"pool": 4})) == {"pool"}
    content = bytearray(path.read_bytes())
    content[content.index(b"mu.npy") + 150] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(Exception, match="CRC"):
        read_statistics(path, {"pool": 4})


def test_an_array_without_compression_stays_on_disk(tmp_path):
    np.savez(tmp_path / "real.npz", np.stack([pixels()]))
    assert isinstance(open_array(tmp_path / "real.npz")[1], np.memmap)
