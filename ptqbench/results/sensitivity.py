"""Which layers of a cell cost most, as a table."""

from __future__ import annotations

from ptqbench.results import formatting
from ptqbench.results.formatting import grid_words
from ptqbench.results.record import CellRecord, RunRecord
from ptqbench.results.tables import Cell, Column, Table

MOST = 12
"""Sites that a report shows; `ptqbench sensitivity --all` prints all."""


def sensitivity_tables(run: RunRecord, most: int | None = MOST) -> list[Table]:
    """A table for each cell of which it was asked."""
    return [sensitivity_table(cell, most) for cell in run.cells if cell.sensitivity]


def sensitivity_table(cell: CellRecord, most: int | None = MOST) -> Table:
    """The sites whose quantization costs most, the largest share first."""
    grids = {row["name"]: row for row in cell.ledger if "site" not in row}
    columns = [
        Column("site", "layer or attention", text=True),
        Column("weights", "weights", text=True),
        Column("inputs", "inputs", text=True),
        Column("share", "share of latent-error", remark="%"),
    ]
    rows = []
    for name, x in list(cell.sensitivity.items())[:most]:
        grid = grids.get(name, {})
        words = [Cell(grid_words(grid.get(part)) if grid.get(part) else "") for part in ("weight", "activation")]
        value, low, high = (100 * figure for figure in (x.value, x.low, x.high))
        rows.append([Cell(name), *words, Cell(formatting.measured(value, low, high), x.value, x.low, x.high, x.n)])
    trajectories = next(iter(cell.sensitivity.values())).n
    rest = len(cell.sensitivity) - len(rows)
    notes = [
        "What goes of the error when this site alone is back in full precision and nothing is fitted anew; 95 % intervals over "
        f"{trajectories} held-out trajectories. Shares need not add up: errors cancel."
        + (f" {rest} more sites have smaller shares." if rest else "")
    ]
    return Table(f"{cell.id}: which layers cost most", columns, rows, notes)
