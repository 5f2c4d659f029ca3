"""Markdown tables of kept pages."""

from __future__ import annotations

from ptqbench.results.markdown import escape, table


def test_a_table_is_not_padded_and_bars_stay_in_their_cells() -> None:
    found = table(("a", "b"), [("x|y", "1"), (escape("p|q_r\n[s]"), "22")], right=(False, True))
    assert found.splitlines() == ["| a | b |", "| --- | ---: |", "| x\\|y | 1 |", "| p\\|q\\_r \\[s\\] | 22 |"]
