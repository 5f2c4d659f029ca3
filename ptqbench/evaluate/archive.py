"""Reference files (.npz) as the guided-diffusion evaluator and pytorch-fid write them: images, ready-made statistics."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ptqbench.digest import CHUNK
from ptqbench.errors import UserError
from ptqbench.evaluate.features import POOL, SPATIAL
from ptqbench.evaluate.moments import Gaussian

ARRAY = "arr_0"
STATISTICS = {POOL: ("mu", "sigma"), SPATIAL: ("mu_s", "sigma_s")}
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")


def open_array(path: Path, name: str = ARRAY) -> tuple[list[str], NDArray[Any] | None]:
    """Names of all arrays in an .npz file, and one of them, or None if it is not there.

    An array that is stored without compression (`numpy.savez`) stays on disk and is read where it is touched. Raises
    `OSError`, `ValueError` or `zipfile.BadZipFile` for a file that is damaged or holds pickled objects.
    """
    with np.load(path, allow_pickle=False) as archive:
        names = list(archive.files)
        if name not in names:
            return names, None
        require_whole(path, f"{name}.npy")
        mapped = _mapped(path, f"{name}.npy")
        return names, archive[name] if mapped is None else mapped


def require_whole(path: Path, member: str) -> None:
    """Read a member of an archive against its checksum, once in a process. Raises `zipfile.BadZipFile` if a byte is wrong.

    An array that stays on disk is mapped past it.
    """
    state = path.stat()
    _require_whole(path.resolve(), member, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=256)
def _require_whole(path: Path, member: str, size: int, changed: int) -> None:
    with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
        while stream.read(CHUNK):
            pass


def has_images(path: Path) -> bool:
    """Whether an .npz file holds `arr_0`; errors as for `open_array`."""
    with np.load(path, allow_pickle=False) as archive:
        return ARRAY in archive.files


def read_statistics(path: Path, widths: Mapping[str, int]) -> dict[str, Gaussian]:
    """Ready-made mean and covariance by output ("pool": mu, sigma; "spatial": mu_s, sigma_s); empty if there are none.

    `widths` are those of the extractor's outputs. Raises `UserError` for statistics of another width, of a wrong shape, or
    that are not finite.
    """
    found = {}
    with np.load(path, allow_pickle=False) as archive:
        for output, (mean, covariance) in STATISTICS.items():
            if output in widths and mean in archive.files and covariance in archive.files:
                for name in (mean, covariance):
                    require_whole(path, f"{name}.npy")
                found[output] = _gaussian(path, (mean, archive[mean]), (covariance, archive[covariance]), widths[output])
    return found


def _gaussian(path: Path, mean: tuple[str, NDArray[Any]], covariance: tuple[str, NDArray[Any]], width: int) -> Gaussian:
    for (name, array), shape in ((mean, (width,)), (covariance, (width, width))):
        if array.shape != shape:
            raise UserError(
                f"{path}: {name} is {array.shape}, but the recipe's features need {shape}",
                "the statistics belong to another extractor or layer: choose its features, or a reference of images",
            )
        if not np.isfinite(array).all():
            raise UserError(f"{path}: {name} holds values that are not finite", "replace the file")
    return Gaussian(*(torch.from_numpy(np.asarray(array, dtype=np.float64)) for _, array in (mean, covariance)))


def _mapped(path: Path, member: str) -> NDArray[Any] | None:
    """An array as a view of the file, or None if it is compressed or laid out in another way."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(member)
        if info.compress_type != zipfile.ZIP_STORED:
            return None
    with path.open("rb") as stream:
        stream.seek(info.header_offset)
        header = _LOCAL_HEADER.unpack(stream.read(_LOCAL_HEADER.size))
        stream.seek(info.header_offset + _LOCAL_HEADER.size + header[-2] + header[-1])
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            return None
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        if fortran or dtype.hasobject or 0 in shape:
            return None
        return np.memmap(path, dtype, "r", stream.tell(), shape)
