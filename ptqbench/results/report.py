"""What reports print of a run, in reading order."""

from __future__ import annotations

from ptqbench.results.difference_table import sensitivity
from ptqbench.results.executed import executed_tables
from ptqbench.results.overview import overview
from ptqbench.results.record import RunRecord
from ptqbench.results.sensitivity import sensitivity_tables
from ptqbench.results.tables import Table, comparison, published


def tables_of(run: RunRecord, *, everything: bool = True) -> list[Table]:
    """The main table, and what was executed; with `everything` also what stands behind it."""
    return [overview(run, alone=not everything), *executed_tables(run), *(details(run) if everything else [])]


def details(run: RunRecord) -> list[Table]:
    """Values over images with their spread over seeds and what they cost, what could have been seen, published figures."""
    return [comparison(run), *sensitivity(run), *sensitivity_tables(run), *published(run)]
