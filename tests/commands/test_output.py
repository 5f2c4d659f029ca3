"""Tables of results on stdout: width and colours."""

import sys

import pytest

from ptqbench.commands.output import colored, print_tables
from ptqbench.results.tables import Cell, Column, Table


@pytest.mark.parametrize(("terminal", "no_color", "expected"), [(True, "", True), (True, "1", False), (False, "", False)])
def test_colours_are_for_terminals_that_want_them(monkeypatch, terminal, no_color, expected):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    monkeypatch.setenv("NO_COLOR", no_color)
    assert colored() is expected


def test_tables_are_folded_to_the_width_that_columns_says(monkeypatch, capsys):
    names = [f"a long heading {i}" for i in range(9)]
    table = Table("T", [Column(name, name) for name in names], [[Cell(name) for name in names]])
    monkeypatch.setenv("COLUMNS", "70")
    print_tables([table])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 70
