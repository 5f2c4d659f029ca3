"""Errors that a user can act on, and the exit codes that the command line gives them."""

from __future__ import annotations

import errno

EXIT_OK = 0
EXIT_REGRESSION = 1
EXIT_USAGE = 2
EXIT_PLUGIN = 3
EXIT_NOT_COMPARABLE = 4
EXIT_CELL_FAILED = 5
EXIT_INTERRUPTED = 130

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""System errors of a full disk, which carry no file name."""


class UserError(Exception):
    """Something the user can mend. The command line prints `message` and `hint`, never a traceback."""

    exit_code = EXIT_USAGE

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str]]:
        return type(self), (self.message, self.hint)


class PluginError(UserError):
    """A plugin is missing, broken, or clashes with another."""

    exit_code = EXIT_PLUGIN


class NotComparableError(UserError):
    """Two numbers must not stand side by side."""

    exit_code = EXIT_NOT_COMPARABLE


class CellFailedError(UserError):
    """A stage's post-condition does not hold: the cell becomes a row that says why."""

    exit_code = EXIT_CELL_FAILED


def file_error(error: OSError) -> UserError | None:
    """What a user can do about an error of the file system; None for one that names no file, which is somebody's bug."""
    if error.errno in DISK_FULL:
        where = f"{error.filename}: " if error.filename is not None else ""
        return UserError(f"{where}{system_words(error)}", "make room, or choose another disk with --cache and --out")
    if error.filename is None:
        return None
    return UserError(f"{error.filename}: {system_words(error)}", _remedy(error))


def system_words(error: OSError) -> str:
    """The system's words for an error, without its number and file."""
    return (error.strerror or type(error).__name__).lower()


def why_unreadable(error: Exception) -> str:
    """Why a file cannot be read, in words that go on from its name."""
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 text (byte {error.start})"
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    return system_words(error) if isinstance(error, OSError) and error.strerror else str(error)


def _remedy(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "check the name, and that its folder exists"
    if isinstance(error, NotADirectoryError | FileExistsError):
        return "a file stands where a folder is needed: name another path"
    if isinstance(error, IsADirectoryError):
        return "a folder stands where a file is needed: name a file"
    return "name a path that you may read and write, or change its rights"
