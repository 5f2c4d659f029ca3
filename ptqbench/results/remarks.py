"""What a reader of a table has to know of single cells: properties of the record that no column shows."""

from __future__ import annotations

from ptqbench.results.record import RunRecord


def remarks(run: RunRecord) -> list[str]:
    """One sentence for each thing that is odd, with the cells that it concerns."""
    return []
