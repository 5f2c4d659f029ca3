"""`sweep.only`: some cells of a recipe instead of all."""

from __future__ import annotations

from collections.abc import Sequence

from ptqbench.plugin.names import suggest
from ptqbench.recipe.experiment import Cell
from ptqbench.recipe.problems import Problems


def select(cells: Sequence[Cell], only: Sequence[str], problems: Problems) -> tuple[Cell, ...]:
    """Full precision and the cells that `only` names, all of them if it names none.

    A name is a cell's id or the beginning of it up to a "/": "gacq/W4A8" means all of its variants and seeds.
    """
    for name in only:
        if not any(_named(cell, name) for cell in cells):
            problems.add(("sweep", "only"), f'"{name}" is no cell', suggest(name, [cell.id for cell in cells], "cells"))
    if not only:
        return tuple(cells)
    return tuple(cell for cell in cells if cell.method is None or any(_named(cell, name) for name in only))


def _named(cell: Cell, name: str) -> bool:
    return cell.id == name or cell.id.startswith(f"{name.rstrip('/')}/")
