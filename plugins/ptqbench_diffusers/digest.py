"""Checksums of large files, computed once per process."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from ptqbench.errors import UserError

CHUNK = 1 << 22


def fingerprint(files: Mapping[str, Path]) -> str:
    """SHA-256 (hex) over the contents of files and the names that they are given here, not over where they lie.

    A file is read again only when its size or time of change differs. Raises `UserError` if one cannot be read.
    """
    digest = hashlib.sha256()
    for name in sorted(files):
        path = files[name].resolve()
        try:
            status = path.stat()
            content = _sha256(path, status.st_size, status.st_mtime_ns)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}", "check the file and its permissions") from error
        digest.update(f"{name}\0{content}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=1 << 17)
def _sha256(path: Path, size: int, changed: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
