"""How an error on the way becomes a cell's reason: the other cells go on."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

from ptqbench.errors import PluginError, UserError
from ptqbench.plugin_sources import FILE_MODULE
from ptqbench.plugins import GROUP

PLUGIN_ERRORS = (Exception, SystemExit)
"""What a plugin's code may raise: `sys.exit` in a metric must cost its cell, and not end the run as if all were well."""


def reason_of(error: BaseException) -> str:
    """Why a cell failed, in a few words.

    Anything but a `UserError` is a bug, most likely of a plugin: its author gets the plugin's own line on stderr.
    """
    if isinstance(error, UserError):
        return str(error)
    frame = _frame(error)
    words = _words(error)
    if frame is None:
        return words
    print(f"{words}\n{''.join(traceback.format_list([frame])).rstrip()}", file=sys.stderr)
    return f"{words} ({Path(frame.filename).name}:{frame.lineno})"


@contextlib.contextmanager
def exits_are_errors() -> Iterator[None]:
    """Raises `PluginError` where code in the block calls `sys.exit`, which would end the program with its own code."""
    try:
        yield
    except SystemExit as error:
        frame = _frame(error)
        place = f" at {frame.filename}:{frame.lineno}" if frame else ""
        raise PluginError(f"{_words(error)}{place}", "a plugin raises an error where it cannot go on") from error


def _words(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"SystemExit: a plugin called sys.exit({error.code!r})"
    return f"{type(error).__name__}: {error}"


def _frame(error: BaseException) -> traceback.FrameSummary | None:
    """The innermost line of a plugin that the error went through, else the innermost of all."""
    frames = list(traceback.walk_tb(error.__traceback__))
    plugins = {entry.module.partition(".")[0] for entry in entry_points(group=GROUP)}
    own = [(f, line) for f, line in frames if _is_plugin(str(f.f_globals.get("__name__", "")), plugins)]
    chosen = (own or frames)[-1:]
    return next(iter(traceback.StackSummary.extract(iter(chosen))), None)


def _is_plugin(module: str, plugins: set[str]) -> bool:
    return module.partition(".")[0] in plugins or module.startswith(FILE_MODULE)
