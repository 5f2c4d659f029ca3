"""One piece of shared state, and what its owner says of those who move it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

UNKNOWN = object()
"""Stands for the fresh value of what differs between machines and versions."""

ONE_THREAD = threading.RLock()
"""Held while a block fixes this state, or takes what moves for its own doing: the state has no other owner by thread."""

OWN_STREAM = "draw from a generator of your own, or from the one that the call is given"
BLOCK = "set it in a `with` block that ends before the call does"
RUN = "leave it as it is: a run fixes it"


@dataclass(frozen=True)
class Shared:
    """A piece of state: in words, how it is read and put back, its value in a fresh process, and what to do `instead` of
    moving it."""

    words: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    fresh: Any = UNKNOWN
    instead: str = ""
