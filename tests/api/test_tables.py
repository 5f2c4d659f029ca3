"""Tables are DataFrames where pandas is installed, and lists of dicts elsewhere."""

from __future__ import annotations

import importlib.machinery
import sys
from types import ModuleType

from ptqbench.api.tables import table

ROWS = [{"cell": "a", "value": 1.0}, {"cell": "b", "value": 2.0}]


class Pandas(ModuleType):
    """What is asked of pandas, which need not be installed for tests."""

    def __init__(self) -> None:
        super().__init__("pandas")
        self.__spec__ = importlib.machinery.ModuleSpec("pandas", None)

    class DataFrame:
        def __init__(self, rows):
            self.rows = list(rows)


def test_without_pandas_a_list_of_dicts(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert table(ROWS) == ROWS


def test_with_pandas_a_data_frame_of_the_rows(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", Pandas())
    made = table(ROWS)
    assert isinstance(made, Pandas.DataFrame)
    assert made.rows == ROWS
