"""How an error on the way becomes a cell's reason: the other cells go on."""

from __future__ import annotations

import traceback
from pathlib import Path

from ptqbench.errors import UserError


def reason_of(error: Exception) -> str:
    """Why a cell failed, in a few words.

    Anything but a `UserError` is a bug, most likely of a plugin: its author needs the traceback, which goes to stderr.
    """
    if isinstance(error, UserError):
        return str(error)
    traceback.print_exception(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
