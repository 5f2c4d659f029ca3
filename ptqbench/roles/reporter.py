"""Reporters: a finished comparison as text."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ptqbench.plugin.component import Options
from ptqbench.results.record import RunRecord


class Reporter(ABC):
    """Built as `Class(options)`. `suffix` is the file ending under which `run` saves the text."""

    suffix = ".txt"

    def __init__(self, options: Options) -> None:
        self.options = options

    @abstractmethod
    def render(self, run: RunRecord, *, width: int | None = None) -> str:
        """The comparison as text; `width` is the terminal's width in columns where there is one."""
