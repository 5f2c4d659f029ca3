"""Cells by what they are called: some of a recipe instead of all (`sweep.only`), or one."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Protocol, TypeVar

from ptqbench.errors import UserError
from ptqbench.plugin.names import suggest
from ptqbench.recipe.experiment import Cell
from ptqbench.recipe.problems import Problems


class HasId(Protocol):
    """A cell of a recipe or of a record."""

    @property
    def id(self) -> str: ...


C = TypeVar("C", bound=HasId)


def find_cell(cells: Sequence[C], wanted: str, where: str) -> C:
    """The cell with this id. Raises `UserError` with the nearest id for any other; `where` is "recipe" or "run"."""
    for cell in cells:
        if cell.id == wanted:
            return cell
    raise UserError(f'no cell "{wanted}" in this {where}', suggest(wanted, (cell.id for cell in cells), "cells"))


def select(cells: Sequence[Cell], only: Sequence[str], problems: Problems, unsure: Container[str] = ()) -> tuple[Cell, ...]:
    """Full precision and the cells that `only` names, all of them if it names none.

    A name is a cell's id or the beginning of it up to a "/": "gacq/W4A8" means all of its variants and seeds. Methods that
    are `unsure` may have cells that are not there yet.
    """
    for name in only:
        if name.partition("/")[0] not in unsure and not any(_named(cell, name) for cell in cells):
            problems.add(("sweep", "only"), f'"{name}" is no cell', suggest(name, [cell.id for cell in cells], "cells"))
    if not only:
        return tuple(cells)
    return tuple(cell for cell in cells if cell.method is None or any(_named(cell, name) for name in only))


def _named(cell: Cell, name: str) -> bool:
    return cell.id == name or cell.id.startswith(f"{name.rstrip('/')}/")
