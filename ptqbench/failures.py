"""Whose an error is: a plugin's becomes a cell's reason or a `PluginError`, the rest is a bug of ours, if it is anybody's.

`ptqbench.boundary` knows which plugin it called, and says so of whatever comes out; here is what becomes of errors then.
"""

from __future__ import annotations

import contextlib
import errno
import traceback
from collections.abc import Iterator
from pathlib import Path

from ptqbench.errors import DISK_FULL, PluginError, UserError, file_error

PLUGIN_ERRORS = (Exception, SystemExit)
"""What a plugin's code may raise: `sys.exit` in a metric must cost its cell, and not end the run as if all were well."""

TRACEBACK = "PTQBENCH_TRACEBACK"
"""Environment variable: print the traceback also of errors that are told in one message."""

_MEMORY_WORDS = ("DefaultCPUAllocator: ", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What torch says in a plain `RuntimeError` when there is no memory: on a CPU, on accelerators, in one of their libraries."""


class PluginFault(PluginError):
    """A plugin's code raised an error, or broke its role's contract; the message says which, and the hint what is right."""

    def at(self, stage: str) -> PluginFault:
        """The same, told with the stage that it happened in."""
        found = type(self)(f"{self.message} ({stage})", self.hint).with_traceback(self.__traceback__)
        found.__cause__ = self.__cause__
        return found


def reason_of(error: BaseException) -> str:
    """Why a cell failed, in a few words: those of a `UserError`; of anything else, which is a bug, also its line."""
    if isinstance(error, UserError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    return f"{words(error)} ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else words(error)


def traceback_of(error: BaseException) -> str:
    """The whole traceback as text, with the errors that it came from."""
    return "".join(traceback.format_exception(error))


@contextlib.contextmanager
def blamed(stage: str = "") -> Iterator[None]:
    """Tells errors of the block with the stage that they happened in, as `told` does; a bug of ours passes as it is.

    Also where a plugin calls `sys.exit`: the program would end with a code that says something else.
    """
    try:
        yield
    except PluginFault as error:
        raise (error.at(stage) if stage else error) from error.__cause__
    except PLUGIN_ERRORS as error:
        found = told(error, f" ({stage})" if stage else "")
        if found is None:
            raise
        raise found from error


def told(error: BaseException, where: str = "") -> UserError | None:
    """What a user is told of an error outside of cells; None for one that says it itself, and for what is a bug of ours.

    `where` is put behind what it is. Memory that ran out is nobody's bug, whoever asked for it.
    """
    # A full disk is nobody's bug either, and told with its own remedy.
    if isinstance(error, UserError) or (isinstance(error, OSError) and error.errno in DISK_FULL):
        return None
    if _is_memory(error):
        remedy = "smaller batches need less: sampling.batch, calibration.batch"
        return UserError(f"memory ran out{where}: {words(error)}", remedy)
    if isinstance(error, SystemExit):
        return PluginError(f"{words(error)}{where}", "a plugin raises an error where it cannot go on")
    return None


def fault(error: BaseException, plugin: str, call: str, line: str) -> UserError | None:
    """What a user is told of an error that a plugin raised in `call`: its bug, unless it is a file that the user can see to.

    None for what is nobody's bug: memory, and a full disk.
    """
    if _is_memory(error) or (isinstance(error, OSError) and error.errno in DISK_FULL):
        return None
    at = f" at {line}" if line else ""
    file = file_error(error) if isinstance(error, OSError) else None
    if file is not None:
        return UserError(file.message, f'{file.hint}\nthe plugin "{plugin}" needs it in {call}{at}')
    remedy = f"mend the plugin; `ptqbench --traceback ...`, or {TRACEBACK}=1, prints the whole traceback"
    return PluginFault(f'plugin "{plugin}" failed in {call}: {words(error)}{at}', remedy)


def words(error: BaseException) -> str:
    """An error in one line."""
    if isinstance(error, SystemExit):
        return f"SystemExit: a plugin called sys.exit({error.code!r})"
    return f"{type(error).__name__}: {error}"


def _is_memory(error: BaseException) -> bool:
    # torch's class by its name: the command line asks as well, and imports no torch.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _MEMORY_WORDS)
