"""Reporters: a comparison for the terminal, and as Markdown, CSV and LaTeX.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ptqbench import Component, Options, hookimpl


class TerminalOptions(Options):
    """Options of the terminal reporter."""

    color: Literal["auto", "always", "never"] = Field(
        "auto", description='colours: "auto" means in a terminal, unless the environment variable NO_COLOR is set'
    )
    all: bool = Field(False, description="values and differences apart as well, with all that is known of them")


class MarkupOptions(Options):
    """Options of the reporters that write files."""

    all: bool = Field(True, description="also the tables behind the main one")


@hookimpl
def ptqbench_components() -> list[Component]:
    """terminal, markdown, csv, latex."""
    return [
        Component(
            "reporter",
            "terminal",
            "tables for a terminal of any width; wide ones are folded, never cut",
            "ptqbench_reports.terminal:TerminalReporter",
            TerminalOptions,
        ),
        Component(
            "reporter",
            "markdown",
            "tables for a README or a pull request",
            "ptqbench_reports.markup:MarkdownReporter",
            MarkupOptions,
        ),
        Component("reporter", "csv", "unrounded figures for other programs", "ptqbench_reports.values:CsvReporter"),
        Component(
            "reporter",
            "latex",
            "tables for a paper, with the rules of booktabs",
            "ptqbench_reports.markup:LatexReporter",
            MarkupOptions,
        ),
    ]
