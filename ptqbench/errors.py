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
