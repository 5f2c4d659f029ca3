"""Real images in files: read as they are, never resized or converted, because how that is done moves every metric."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ptqbench.errors import UserError
from ptqbench.evaluate.archive import ARRAY, open_array
from ptqbench.evaluate.chunks import Chunks

SUFFIXES = (".png",)
LOSSY = (".jpg", ".jpeg", ".webp")
MODES = {1: "L", 3: "RGB"}
PART = 256
"""Images that are read at a time."""
DEPTH = 8
"""Bits of each channel of what a model generates."""
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RESIZE = "prepare a copy at the model's size; nothing is resized here, because how it is done moves every metric"


def reference_files(path: Path, setting: str) -> dict[str, Path]:
    """The files that hold reference images, by name; `setting` is the recipe's key that named `path`.

    Raises `UserError` if there are none, and for files of lossy formats: how strongly they are compressed moves a Frechet
    distance more than methods do, and the pixels that a decoder makes of them are not fixed by the file's hash.
    """
    if path.is_file() and path.suffix == ".npz":
        return {path.name: path}
    if not path.is_dir():
        raise UserError(f"there is no folder and no .npz file {path}", f"mend {setting}, or leave it out")
    files = sorted(file for file in path.rglob("*") if file.is_file())
    if lossy := [file for file in files if file.suffix.lower() in LOSSY]:
        raise UserError(
            f"{path} holds {len(lossy)} files of a lossy format, such as {lossy[0].name}: compression moves every metric",
            f"name the images before compression; where the data set itself is compressed, decode and resize it once, and "
            f"keep the pixels as png files or as {ARRAY} in an .npz file",
        )
    found = [file for file in files if file.suffix.lower() in SUFFIXES]
    if not found:
        raise UserError(f"{path} holds no png files", f"name a folder of png files or an .npz file with {ARRAY}")
    return {file.relative_to(path).as_posix(): file for file in found}


def count_pictures(path: Path, setting: str) -> int:
    """How many reference images there are, without reading them; 0 for an .npz file with statistics alone.

    Errors as for `reference_files`.
    """
    files = reference_files(path, setting)
    if not path.is_file():
        return len(files)
    with readable(path):
        array = open_array(path)[1]
    return 0 if array is None else len(array)


def open_pictures(path: Path, shape: tuple[int, int, int], setting: str) -> Chunks:
    """The images of a folder, or of `arr_0` in an .npz file, as parts (n, C, H, W) uint8 in the order of their names.

    Raises `UserError`, here or when a part is read, if one is unreadable or its size or channels are not those of `shape`.
    """
    files = list(reference_files(path, setting).values())
    if path.is_file():
        array = _checked_array(path, shape)
        return Chunks(_counts(len(array)), partial(_part_of_array, array))
    return Chunks(_counts(len(files)), partial(_part_of_files, files, shape))


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Errors of reading a file become a `UserError` that names it."""
    broken = (OSError, ValueError, SyntaxError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)
    try:
        yield
    except (*broken, UnidentifiedImageError, Image.DecompressionBombError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"cannot read {path}: {reason}", "replace the file") from error


def _counts(total: int) -> list[int]:
    return [min(PART, total - start) for start in range(0, total, PART)]


def _part_of_array(array: NDArray[Any], index: int) -> Tensor:
    part = array[index * PART : (index + 1) * PART]
    return torch.from_numpy(np.array(part.transpose(0, 3, 1, 2), order="C"))


def _part_of_files(files: list[Path], shape: tuple[int, int, int], index: int) -> Tensor:
    return torch.from_numpy(np.stack([_picture(file, shape) for file in files[index * PART : (index + 1) * PART]]))


def _checked_array(path: Path, shape: tuple[int, int, int]) -> NDArray[Any]:
    with readable(path):
        names, found = open_array(path)
    if found is None:
        raise UserError(f"{path} has no {ARRAY}; it holds {', '.join(names) or 'nothing'}", f"store images as {ARRAY}")
    channels, height, width = shape
    if found.dtype != np.uint8 or found.shape[1:] != (height, width, channels) or not len(found):
        raise UserError(
            f"{path}: {ARRAY} is {found.shape} {found.dtype}, the model gives (N, {height}, {width}, {channels}) uint8",
            _RESIZE,
        )
    return found


def _require_png(path: Path) -> None:
    """Raises `UserError` for a file that is a PNG by its name only, or of another depth: a decoder would quietly round it."""
    with path.open("rb") as stream:
        head = stream.read(25)
    if not head.startswith(_SIGNATURE):
        with Image.open(path) as picture:
            kind = picture.format
        raise UserError(
            f"{path} is called .png and is {kind}", "keep pixels that were never compressed with losses, as png files"
        )
    # The header chunk: length, "IHDR", width, height, then the depth.
    if len(head) == 25 and head[24] != DEPTH:
        raise UserError(f"{path} has {head[24]} bits per channel, generated images have {DEPTH}", "prepare a copy with 8 bits")


def _picture(path: Path, shape: tuple[int, int, int]) -> NDArray[Any]:
    channels, height, width = shape
    with readable(path):
        _require_png(path)
    with readable(path), Image.open(path) as picture:
        mode, size = picture.mode, picture.size
        fits = (mode, size) == (MODES.get(channels), (width, height))
        pixels = np.asarray(picture) if fits else None
    if pixels is None:
        wanted = f"{width}x{height} {MODES.get(channels, f'{channels} channels')}"
        raise UserError(f"{path} is {size[0]}x{size[1]} {mode}, the model gives {wanted}", _RESIZE)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
