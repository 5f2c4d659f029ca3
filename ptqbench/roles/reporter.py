"""Reporters: a finished comparison as text."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ptqbench.results.record import RunRecord
from ptqbench.roles.base import WithOptions


class Reporter(WithOptions, ABC):
    """Built as `Class(options)`. `suffix` is the file ending under which `run` saves the text."""

    suffix = ".txt"

    @abstractmethod
    def render(self, run: RunRecord, *, width: int | None = None) -> str:
        """The comparison as text; `width` is the terminal's width in columns where there is one."""
