"""All tables of a run in reading order."""

from __future__ import annotations

from ptqbench.results.difference_table import differences
from ptqbench.results.record import RunRecord
from ptqbench.results.tables import Table, comparison, published


def tables_of(run: RunRecord) -> list[Table]:
    """The measured comparison, the differences to its baseline, and the published figures."""
    return [comparison(run), *differences(run), *published(run)]
