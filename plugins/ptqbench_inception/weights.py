"""The file of weights: where it is looked for, and that it is the right one."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from ptqbench.digest import file_sha256
from ptqbench.errors import UserError
from ptqbench_inception import FILE, SOURCE

OFFICIAL = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
SIZE = 95_628_359
"""Bytes of the official file."""
_DOWNLOAD = f"download {SOURCE} ({SIZE} bytes)"


def find_weights(option: str) -> Path:
    """The file that the option names, or the one in torch's hub cache. Raises `UserError` if there is none."""
    path = Path(os.path.expanduser(option)) if option else hub_file()
    if path.is_file():
        return path
    hint = f"{_DOWNLOAD}\nwhere there is a network, and put it at {hub_file()}"
    if option:
        raise UserError(f"there is no file of Inception weights {path}", f"mend the option weights, or {hint}")
    raise UserError(
        f"the Inception weights are not on this machine: there is no {path}; nothing is downloaded on its own",
        f'{hint},\nor name it: features = {{ use = "inception", weights = "FILE" }}',
    )


def hub_file() -> Path:
    """Where torch's hub, and so pytorch-fid, would keep the file."""
    return Path(torch.hub.get_dir()) / "checkpoints" / FILE


def check_weights(path: Path, expected: str) -> str:
    """The file's SHA-256 (hex), which must be `expected`, or the official one if that is empty. Raises `UserError`."""
    found, wanted = file_sha256(path), expected or OFFICIAL
    if found == wanted:
        return found
    if expected:
        raise UserError(
            f"{path} has the SHA-256 {found}, but the option sha256 says {expected}", "mend the option, or the file"
        )
    size = path.stat().st_size
    cut = f"; it has {size} bytes instead of {SIZE}, which looks like a broken download" if size < SIZE else ""
    raise UserError(
        f"{path} is not the file of weights that published numbers rest on: its SHA-256 is {found}, expected {OFFICIAL}{cut}",
        f'{_DOWNLOAD} anew,\nor accept this file under another name than FID: sha256 = "{found}"',
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors in the file, without running code from it. Raises `UserError` if it is no file of tensors."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch.load has no closed list of errors for files that are no checkpoints.
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{path} cannot be read as weights: {reason}", _DOWNLOAD) from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{path} holds no weights by name", _DOWNLOAD)
    return found
