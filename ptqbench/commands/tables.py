"""Tables on a terminal of any width: words stay whole, and no column is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import click
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ptqbench.results.panels import panels

GAP = 3
"""Spaces between two columns."""

NARROW = 76
"""Below this many columns a table would be all wrapping, so entries are stacked instead."""

Rows = Sequence[Sequence[str]]


def print_rows(out: Console, headings: Sequence[str], rows: Rows, keep: int, right: Sequence[str]) -> None:
    """Print rows with the width of `out`; a column without any value is left out.

    The first `keep` columns and those in `right`, which are flushed right, are never wrapped. What does not fit beside the
    first columns follows as another table that repeats them, or stands below each row if even that is too wide.
    """
    shown = [i for i in range(len(headings)) if i < keep or not rows or any(row[i] for row in rows)]
    entries = {i: [headings[i], *(row[i] for row in rows)] for i in shown}
    longest = {i: max(map(cell_len, column)) for i, column in entries.items()}
    words = {i: max(cell_len(word) for entry in column for word in entry.split()) for i, column in entries.items()}
    least = {i: longest[i] if i < keep or headings[i] in right else words[i] for i in shown}
    first = [i for i in shown if i < keep]
    others = [i for i in shown if i >= keep]
    if out.width < NARROW or any(_total([*first, i], least) > out.width for i in others):
        _stack(headings, rows, keep)
        return
    for number, places in enumerate(panels([least[i] for i in shown], len(first), out.width, GAP)):
        columns = [shown[place] for place in places]
        if number:
            click.echo("")
        widths = _stretched(columns, least, longest, out.width)
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for i in columns:
            justify: Literal["left", "right"] = "right" if headings[i] in right else "left"
            table.add_column(headings[i], justify=justify, width=widths[i], overflow="fold")
        for row in rows:
            table.add_row(*(Text(row[i]) for i in columns))
        with out.capture() as capture:
            out.print(table)
        # rich pads every line to the full width.
        click.echo("\n".join(line.rstrip() for line in capture.get().rstrip("\n").splitlines()))


def _stack(headings: Sequence[str], rows: Rows, keep: int) -> None:
    for row in rows:
        click.echo("  ".join(row[:keep]))
        for heading, value in zip(headings[keep:], row[keep:], strict=True):
            if value:
                click.echo(f"    {heading}: {value}")


def _total(columns: Sequence[int], widths: Mapping[int, int]) -> int:
    return sum(widths[i] + GAP for i in columns) - GAP


def _stretched(columns: Sequence[int], least: Mapping[int, int], longest: Mapping[int, int], room: int) -> dict[int, int]:
    """Widths from `least` up to `longest`; what room is left is shared equally by the columns that want more."""
    widths = {i: least[i] for i in columns}
    free = room - _total(columns, widths)
    while free > 0 and (wanting := [i for i in columns if widths[i] < longest[i]]):
        share = max(1, free // len(wanting))
        for i in wanting:
            given = min(share, longest[i] - widths[i], free)
            widths[i] += given
            free -= given
    return widths
