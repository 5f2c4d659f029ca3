"""Checksums of large files, computed once per process."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from ptqbench.errors import UserError

CHUNK = 1 << 22


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file, read again only when its size or time of change differs.

    Raises `UserError` if it cannot be read.
    """
    try:
        resolved = path.resolve()
        status = resolved.stat()
        return _sha256(resolved, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", "check the file and its permissions") from error


def fingerprint(files: Mapping[str, Path]) -> str:
    """SHA-256 (hex) over the contents of files and the names that they are given here, not over where they lie.

    Raises `UserError` if one cannot be read.
    """
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{file_sha256(files[name])}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=1 << 17)
def _sha256(path: Path, size: int, changed: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
