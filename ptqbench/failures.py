"""Whose an error is: a plugin's becomes a cell's reason or a `PluginError`, the rest is a bug of ours, if it is anybody's.

This stands outside of the engine, whose sources are part of every cache key: words about errors decide no number.
"""

from __future__ import annotations

import contextlib
import errno
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from types import FrameType

from ptqbench.errors import DISK_FULL, PluginError, UserError, file_error
from ptqbench.plugin.manager import PluginManager
from ptqbench.plugin.sources import FILE_MODULE

PLUGIN_ERRORS = (Exception, SystemExit)
"""What a plugin's code may raise: `sys.exit` in a metric must cost its cell, and not end the run as if all were well."""

TRACEBACK = "PTQBENCH_TRACEBACK"
"""Environment variable: print the traceback also of errors that are told in one message."""

_CORE = "ptqbench"

_MEMORY_WORDS = ("DefaultCPUAllocator: ", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What torch says in a plain `RuntimeError` when there is no memory: on a CPU, on accelerators, in one of their libraries."""


@dataclass(frozen=True)
class Blame:
    """The innermost code of a plugin that an error went through: `call` is what was called of it, `where` its line.

    `raised` unless the plugin had called the core, and the error came from there.
    """

    plugin: str
    call: str
    where: str
    raised: bool


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


def traceback_of(error: BaseException) -> str:
    """The whole traceback as text, with the errors that it came from."""
    return "".join(traceback.format_exception(error))


@contextlib.contextmanager
def blamed(stage: str = "") -> Iterator[None]:
    """Raises what `told` makes of an error in the block: `PluginError` for a plugin's, also where it calls `sys.exit`.

    The program would end with the code of a bug of ours, or with that of `sys.exit`. Other errors of the core pass as they are.
    """
    try:
        yield
    except PLUGIN_ERRORS as error:
        found = told(error, stage)
        if found is None:
            raise
        raise found from error


def told(error: BaseException, stage: str = "") -> UserError | None:
    """What a user is told of an error outside of cells; None for one that says it itself, and for what is a bug of ours.

    `stage` says where. Memory that ran out is nobody's bug, whoever asked for it.
    """
    # A full disk is nobody's bug either, and told with its own remedy.
    if isinstance(error, UserError) or (isinstance(error, OSError) and error.errno in DISK_FULL):
        return None
    found = blame(error)
    at = f" ({stage})" if stage else ""
    if _is_memory(error):
        call = f" in {found.call}" if found else ""
        remedy = "smaller batches need less: sampling.batch, calibration.batch"
        return UserError(f"memory ran out{call}{at}: {_words(error)}", remedy)
    if found is not None and found.raised:
        return _of_plugin(error, found, at)
    if isinstance(error, SystemExit):
        frame = _frame(error)
        place = f" at {frame.filename}:{frame.lineno}" if frame else ""
        return PluginError(f"{_words(error)}{at}{place}", "a plugin raises an error where it cannot go on")
    return None


def _of_plugin(error: BaseException, found: Blame, at: str) -> UserError:
    """What a plugin raised: its bug, unless it is a file that the user can see to."""
    file = file_error(error) if isinstance(error, OSError) else None
    if file is not None:
        needs = f'the plugin "{found.plugin}" needs it in {found.call}{at}, at {found.where}'
        return UserError(file.message, f"{file.hint}\n{needs}")
    remedy = f"mend the plugin; `ptqbench --traceback ...`, or {TRACEBACK}=1, prints the whole traceback"
    return PluginError(f'plugin "{found.plugin}" failed in {found.call}{at}: {_words(error)} at {found.where}', remedy)


def blame(error: BaseException) -> Blame | None:
    """The plugin whose code an error went through last; None if there was none."""
    steps = [step for step in _steps(error) if step[2]]
    within = [i for i, (_, _, owner) in enumerate(steps) if owner != _CORE]
    if not within:
        return None
    last = within[-1]
    # What the core called: the outermost code of plugins that no more of the core separates from the last.
    first = max((i for i in range(last) if steps[i][2] == _CORE), default=-1) + 1
    frame, line, plugin = steps[last]
    call = steps[first][0].f_code.co_qualname.replace(".<locals>", "")
    return Blame(plugin, call, f"{frame.f_code.co_filename}:{line}", raised=last == len(steps) - 1)


def _is_memory(error: BaseException) -> bool:
    # torch's class by its name: the command line asks as well, and imports no torch.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _MEMORY_WORDS)


def _words(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"SystemExit: a plugin called sys.exit({error.code!r})"
    return f"{type(error).__name__}: {error}"


def _frame(error: BaseException) -> traceback.FrameSummary | None:
    """The innermost line of a plugin that the error went through, else the innermost of all."""
    steps = list(_steps(error))
    own = [step for step in steps if step[2] not in ("", _CORE)]
    chosen = [(frame, line) for frame, line, _ in (own or steps)[-1:]]
    return next(iter(traceback.StackSummary.extract(iter(chosen))), None)


def _steps(error: BaseException) -> Iterator[tuple[FrameType, int, str]]:
    """The error's way from the outermost call: frame, line, and whose code it is (a plugin's name, `_CORE`, "" for others)."""
    owners = _owners()
    for frame, line in traceback.walk_tb(error.__traceback__):
        yield frame, line, _owner(frame, owners)


def _owners() -> dict[str, str]:
    """Modules of installed plugins with the plugins' names: those of their hooks, and those that components point at."""
    # Its own manager, since the command line has none at hand; all modules are imported already.
    manager = PluginManager(warn=lambda _: None)
    owners = {info.module: info.name for info in manager.plugins}
    for record in manager.components():
        target = record.component.target
        owners[target.partition(":")[0] if isinstance(target, str) else target.__module__] = record.plugin.name
    return owners


def _owner(frame: FrameType, owners: Mapping[str, str]) -> str:
    module = str(frame.f_globals.get("__name__", ""))
    if module.startswith(FILE_MODULE):
        return Path(frame.f_globals.get("__file__", frame.f_code.co_filename)).name
    top = module.partition(".")[0]
    if top == _CORE:
        return _CORE
    # Several plugins may live in one package: the one whose module shares the longest beginning.
    kin = [name for name in owners if name.partition(".")[0] == top]
    return owners[max(kin, key=lambda name: _shared(name, module))] if kin else ""


def _shared(one: str, other: str) -> int:
    """How many packages two dotted names begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one.split("."), other.split("."), strict=False)))
