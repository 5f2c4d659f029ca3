"""Files and folders that a user names: checked before anything is computed, and errors about them in the user's words."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ptqbench.errors import DISK_FULL, UserError


def require_folder(path: Path, option: str) -> None:
    """See to it that files can be written to the folder `path`, which need not exist yet; nothing is left behind.

    Raises `UserError` naming `option`. Asked before a long computation, whose results would otherwise be lost.
    """
    there = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    if not there.is_dir():
        raise UserError(f"{option} {path}: {there} is a file, and a folder is needed", f"give another {option}")
    try:
        # Rights, read-only disks and quotas: what decides is whether it works.
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UserError(
            f"{option} {path}: nothing can be written to {there}: {reason(error)}", f"give another {option}"
        ) from error


def require_file(path: Path, option: str) -> None:
    """The same for a file `path` that is to be written or replaced."""
    if path.is_dir():
        raise UserError(f"{option} {path} is a folder, and a file is needed", "name a file in it")
    require_folder(path.parent, option)


def as_user_error(error: OSError) -> UserError | None:
    """What a user can do about an error of the file system; None for one that names no file, which is a bug of ours."""
    if error.errno in DISK_FULL:
        where = f"{error.filename}: " if error.filename is not None else ""
        return UserError(f"{where}{reason(error)}", "make room, or choose another disk with --cache and --out")
    if error.filename is None:
        return None
    return UserError(f"{error.filename}: {reason(error)}", _remedy(error))


def reason(error: OSError) -> str:
    """The system's words for an error, without its number and file."""
    return (error.strerror or type(error).__name__).lower()


def _remedy(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "check the name, and that its folder exists"
    if isinstance(error, NotADirectoryError | FileExistsError):
        return "a file stands where a folder is needed: name another path"
    if isinstance(error, IsADirectoryError):
        return "a folder stands where a file is needed: name a file"
    return "name a path that you may read and write, or change its rights"
