"""Real images for comparison with generated ones: read as they are, never resized or converted."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ptqbench.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg")
MODES = {1: "L", 3: "RGB"}
ARRAY = "arr_0"
_RESIZE = "prepare a copy at the model's size; nothing is resized here, because how it is done moves every metric"


def reference_files(path: Path) -> dict[str, Path]:
    """The files that hold reference images, by name. Raises `UserError` if there are none."""
    if path.is_file() and path.suffix == ".npz":
        return {path.name: path}
    if not path.is_dir():
        raise UserError(f"there is no folder and no .npz file {path}", "mend model.reference, or leave it out")
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not found:
        raise UserError(f"{path} holds no png or jpg files", "name a folder of images or an .npz file with arr_0")
    return {file.relative_to(path).as_posix(): file for file in found}


def read_reference(path: Path, shape: tuple[int, int, int]) -> Tensor:
    """All reference images, (N, C, H, W) uint8, in the order of their names.

    Raises `UserError` if one is unreadable or its size or channels are not those of `shape`.
    """
    files = reference_files(path)
    if path.is_file():
        return torch.from_numpy(_from_archive(path, shape))
    images = np.empty((len(files), *shape), dtype=np.uint8)
    for i, file in enumerate(files.values()):
        images[i] = _from_picture(file, shape)
    return torch.from_numpy(images)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    broken = (OSError, ValueError, SyntaxError, EOFError, zipfile.BadZipFile, UnidentifiedImageError)
    try:
        yield
    except (*broken, Image.DecompressionBombError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"cannot read {path}: {reason}", "replace the file") from error


def _from_archive(path: Path, shape: tuple[int, int, int]) -> NDArray[Any]:
    with _readable(path), np.load(path, allow_pickle=False) as archive:
        names = list(archive.files)
        found = archive[ARRAY] if ARRAY in names else None
    if found is None:
        raise UserError(f"{path} has no {ARRAY}; it holds {', '.join(names) or 'nothing'}", f"store images as {ARRAY}")
    channels, height, width = shape
    if found.dtype != np.uint8 or found.shape[1:] != (height, width, channels) or not len(found):
        raise UserError(
            f"{path}: {ARRAY} is {found.shape} {found.dtype}, the model gives (N, {height}, {width}, {channels}) uint8",
            _RESIZE,
        )
    return np.ascontiguousarray(found.transpose(0, 3, 1, 2))


def _from_picture(path: Path, shape: tuple[int, int, int]) -> NDArray[Any]:
    channels, height, width = shape
    with _readable(path), Image.open(path) as picture:
        mode, size = picture.mode, picture.size
        fits = (mode, size) == (MODES.get(channels), (width, height))
        pixels = np.asarray(picture) if fits else None
    if pixels is None:
        wanted = f"{width}x{height} {MODES.get(channels, f'{channels} channels')}"
        raise UserError(f"{path} is {size[0]}x{size[1]} {mode}, the model gives {wanted}", _RESIZE)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
