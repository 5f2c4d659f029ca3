"""Files and folders that a user names: checked before anything is computed, and errors about them in the user's words."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ptqbench.errors import UserError, system_words


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
            f"{option} {path}: nothing can be written to {there}: {system_words(error)}", f"give another {option}"
        ) from error


def require_file(path: Path, option: str) -> None:
    """The same for a file `path` that is to be written or replaced."""
    if path.is_dir():
        raise UserError(f"{option} {path} is a folder, and a file is needed", "name a file in it")
    require_folder(path.parent, option)
