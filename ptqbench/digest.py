"""Checksums: of large files, computed once per process, and of what Python sources compute; versions of packages."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import Any

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


def version_of(package: str) -> str:
    """Name and version of a package that computes, without importing it; that it is not installed is a version too."""
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{package} not installed"


@lru_cache(maxsize=1 << 17)
def _sha256(path: Path, size: int, changed: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def code_digest(sources: Mapping[str, bytes]) -> str:
    """SHA-256 (hex) over what Python sources compile to, by the names that they are given here.

    Comments, docstrings, assertions, line numbers and layout do not count; every operator, constant, name and annotation
    does. A source that does not compile counts as it stands. The same source may compile differently in another Python.
    """
    digest = hashlib.sha256()
    for name in sorted(sources):
        digest.update(f"{name}\0".encode())
        try:
            _update(digest, compile(sources[name], name, "exec", dont_inherit=True, optimize=2))
        except (SyntaxError, ValueError):
            digest.update(sources[name])
    return digest.hexdigest()


def _update(digest: Any, code: CodeType) -> None:
    """Feed a code object, and those nested in it, to `digest`."""
    for part in (code.co_code, code.co_exceptiontable):
        digest.update(len(part).to_bytes(8, "little") + part)
    shape = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    digest.update(repr((code.co_qualname, shape, code.co_names, code.co_varnames, code.co_freevars)).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _update(digest, constant)
        else:
            digest.update(_words(constant).encode())


def _words(constant: Any) -> str:
    """A constant as text that is the same in every process: a frozenset's own order follows the hashes of strings."""
    if isinstance(constant, frozenset):
        return f"frozenset({sorted(map(_words, constant))})"
    if isinstance(constant, tuple):
        return f"({', '.join(map(_words, constant))},)"
    return f"{type(constant).__name__} {constant!r};"
