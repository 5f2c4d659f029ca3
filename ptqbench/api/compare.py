"""Two runs side by side."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptqbench.api.result import Run
from ptqbench.api.tables import table
from ptqbench.results.compare import REFUSED
from ptqbench.results.compare_runs import compare_runs, runs_table
from ptqbench.results.console import render
from ptqbench.results.record import Comparison
from ptqbench.results.tables import Table


@dataclass(frozen=True)
class RunComparison:
    """What two runs have in common, second minus first; `first` and `second` are their names. `print` shows it as a table."""

    first: str
    second: str
    comparisons: tuple[Comparison, ...]

    @property
    def refused(self) -> bool:
        """Whether some pair of numbers must not be subtracted; its `reason` says why."""
        return any(c.verdict == REFUSED for c in self.comparisons)

    def differences(self) -> Any:
        """The differences as rows (see `Run.differences`)."""
        return table(map(dataclasses.asdict, self.comparisons))

    def table(self) -> Table:
        """A line for each pair of numbers."""
        return runs_table(self.comparisons, self.first, self.second)

    def __str__(self) -> str:
        return render([self.table()], 100)


def compare(first: Run | str | Path, second: Run | str | Path) -> RunComparison:
    """The cells that two runs, or the folders of two, have in common, with paired differences (second minus first).

    Raises `NotComparableError` where they do not share noise and sampler, or have nothing in common.
    """
    (a, one), (b, two) = (_named(run, name) for run, name in ((first, "first"), (second, "second")))
    return RunComparison(a, b, tuple(compare_runs(one.record, two.record)))


def _named(run: Run | str | Path, name: str) -> tuple[str, Run]:
    if isinstance(run, Run):
        return str(run.folder or name), run
    return str(run), Run.load(run)
