"""Python's search for circular garbage, which large imports set off again and again."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Meanwhile nothing looks for circular garbage. Importing a large library leaves little of it, and takes a seventh longer
    where all objects made so far are looked at a dozen times."""
    wanted = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if wanted:
            gc.enable()
