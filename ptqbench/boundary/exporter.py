"""What an exporter leaves: files, and sentences about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ptqbench.boundary.call import Call
from ptqbench.boundary.values import described
from ptqbench.roles.exporter import Deployable, Exporter


def _write(
    call: Call, _: Exporter, write: Callable[[Deployable, Path], Sequence[str]], cell: Deployable, folder: Path
) -> list[str]:
    found = write(cell, folder)
    if not isinstance(found, list | tuple) or not all(isinstance(line, str) for line in found):
        raise call.refused(f"returned {described(found)}", "return sentences, a list of strings, which may be empty")
    if not any(folder.iterdir()):
        raise call.refused("wrote no file", "write to the folder that it is given")
    return list(found)


CHECKS = {"write": _write}
