"""Attention in a cell's tables."""

from __future__ import annotations

from typing import Any

from comparison_samples import one_seed

from ptqbench.results.cell_tables import cell_tables
from ptqbench.results.tables import Table


def site(name: str, place: str, bits: int | None, *why: str) -> dict[str, Any]:
    grid = {"bits": bits, "per": "tensor", "symmetric": False, "steps": 1} if bits else None
    common = {"name": name, "kind": "attention", "site": place, "weight": None, "weight_shape": []}
    return {**common, "activation": grid, "why": list(why)}


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def test_sites_have_a_table_of_their_own() -> None:
    cell = one_seed().cells[1]
    layers_before = next(table for table in cell_tables(cell) if table.title == "grids of the layers")
    assert all(table.title != "grids of attention" for table in cell_tables(cell))
    cell.ledger += [
        site("one", "q", 8),
        site("one", "softmax", 16, "attention"),
        site("two", "q", 8),
        site("two", "softmax", None, "attention"),
        site("gate", "unseen softmax", None, "outside"),
    ]
    tables = {table.title: table for table in cell_tables(cell)}
    assert texts(tables["grids of the layers"]) == texts(layers_before)
    assert texts(tables["grids of attention"]) == [
        ["q", "8 bit per tensor", "2", "as the method says"],
        ["softmax", "16 bit per tensor", "1", "attention"],
        ["softmax", "full precision", "1", "attention"],
        ["unseen softmax", "full precision", "1", "outside"],
    ]
