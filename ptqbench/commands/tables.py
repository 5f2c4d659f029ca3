"""Tables on a terminal of any width: words stay whole, and no column is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

import click
from rich.cells import cell_len

from ptqbench.results.panels import panels

GAP = 3
"""Spaces between two columns."""

NARROW = 76
"""Below this many columns a table would be all wrapping, so entries are stacked instead."""

Rows = Sequence[Sequence[str]]


def print_rows(room: int, headings: Sequence[str], rows: Rows, keep: int, right: Sequence[str]) -> None:
    """Print rows in `room` columns; a column without any value is left out. No rich tables, which `list` would wait for.

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
    if room < NARROW or any(_total([*first, i], least) > room for i in others):
        _stack(headings, rows, keep)
        return
    for number, places in enumerate(panels([least[i] for i in shown], len(first), room, GAP)):
        columns = [shown[place] for place in places]
        if number:
            click.echo("")
        widths = _stretched(columns, least, longest, room)
        for row in (headings, *rows):
            for entries_of_line in zip_longest(*(_wrapped(row[i], widths[i]) for i in columns), fillvalue=""):
                texts = zip(columns, entries_of_line, strict=True)
                line = (" " * GAP).join(_padded(text, widths[i], headings[i] in right) for i, text in texts).rstrip()
                click.echo(click.style(line, bold=True) if row is headings else line)
            if row is headings:
                click.echo("\N{BOX DRAWINGS LIGHT HORIZONTAL}" * _total(columns, widths))


def _wrapped(text: str, width: int) -> list[str]:
    """The text in lines; `width` is at least that of its longest word."""
    if cell_len(text) <= width:
        return [text]
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        lines[-1:] = [longer] if cell_len(longer) <= width else [lines[-1], word]
    return lines


def _padded(text: str, width: int, right: bool) -> str:
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


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
