"""The reporter "terminal"."""

from __future__ import annotations

import os
import shutil
import sys

from ptqbench.results import console
from ptqbench.results.record import RunRecord
from ptqbench.results.report import tables_of
from ptqbench.roles.reporter import Reporter
from ptqbench_reports import TerminalOptions


class TerminalReporter(Reporter):
    """The main table and, if asked for, those behind it, folded to the terminal's width."""

    suffix = ".txt"
    options: TerminalOptions

    def render(self, run: RunRecord, *, width: int | None = None) -> str:
        """Text of at most `width` columns (the terminal's own when None), with colours where they are shown."""
        wide = width or shutil.get_terminal_size((100, 24)).columns
        return console.render(tables_of(run, everything=self.options.all), wide, color=self._colored())

    def _colored(self) -> bool:
        if self.options.color != "auto":
            return self.options.color == "always"
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
