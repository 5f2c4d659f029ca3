"""Neutral tables as text for a terminal. A table that is too wide becomes several, one below the other."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from ptqbench.results.panels import panels
from ptqbench.results.tables import KEYS, Cell, Column, Line, Table

LEAST_WIDTH = 60
"""Below this many columns lines are cut by the terminal rather than numbers by us."""

GAP = 2
INDENT = 1


def render(tables: Sequence[Table], width: int, *, color: bool = False) -> str:
    """The tables, each with its title and notes, in at most `width` columns; ANSI colours when `color`."""
    width = max(width, LEAST_WIDTH)
    out = io.StringIO()
    system: Literal["standard"] | None = "standard" if color else None
    console = Console(file=out, width=width, force_terminal=color, color_system=system, highlight=False, legacy_windows=False)
    for table in tables:
        console.print(Text(table.title, style="bold"))
        _print_lead(console, table.lead)
        shown = fitted(_grouped(table), width)
        for number, columns in enumerate(_panels(shown, width) if shown.columns else []):
            if number:
                # Without it a reader takes the rest for another table.
                console.print(Text(f"{table.title}, continued", style="dim"))
            console.print(_panel(shown, columns))
            console.print()
        for note in [*table.footnotes, *table.notes]:
            console.print(Padding.indent(Text(note, style="dim"), INDENT))
        if table.footnotes or table.notes:
            console.print()
    # Rich pads lines to the full width; nothing after the last character is wanted in a file or a comparison.
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).rstrip("\n") + "\n"


def _print_lead(console: Console, lead: Sequence[Line]) -> None:
    """Sentences before a table, hanging behind their labels."""
    indent = max((cell_len(line.label) + GAP for line in lead if line.label), default=0)
    for line in lead:
        if not line.label:
            console.print(Text(line.text))
            continue
        for number, text in enumerate(Text(line.text).wrap(console, console.width - indent)):
            label = line.label if number == 0 else ""
            console.print(Text.assemble((label.ljust(indent), "bold"), text))
    if lead:
        console.print()


def _grouped(table: Table) -> Table:
    """A grouped table without its second column: each value of it stands once, above the rows that share it."""
    if not table.grouped:
        return table
    rows, last = list[list[Cell]](), ""
    for row in table.rows:
        (setting,) = (cell.text for cell in row[1:KEYS])
        alone = sum(other[1].text == setting for other in table.rows) == 1
        if setting != last and not alone:
            rows.append([Cell(setting), *(Cell("") for _ in row[KEYS:])])
        rows.append([row[0], *row[KEYS:]])
        last = setting
    return replace(table, columns=[table.columns[0], *table.columns[KEYS:]], rows=rows)


def fitted(table: Table, width: int) -> Table:
    """The table in the form that is folded least.

    Forms: as it is; without the spaces inside numbers; with long headings on two lines as well; and also without the columns
    that only repeat other parts of it. The first of those that need the fewest panels is taken.
    """
    squeezed = replace(table, rows=[[replace(cell, text=_squeezed(cell.text)) for cell in row] for row in table.rows])
    broken = replace(squeezed, columns=[_broken(squeezed, index) for index in range(len(table.columns))])
    kept = [index for index, column in enumerate(table.columns) if not column.optional]
    bare = replace(
        broken,
        columns=[broken.columns[index] for index in kept],
        rows=[[row[index] for index in kept] for row in squeezed.rows],
    )
    forms = (table, squeezed, broken, *((bare,) if len(kept) < len(table.columns) else ()))
    return min(forms, key=lambda form: len(_panels(form, width)))


def _panels(table: Table, width: int) -> list[list[int]]:
    widths = [_width(table, index) for index in range(len(table.columns))]
    joined = [index for index, column in enumerate(table.columns) if column.joined]
    return panels(widths, sum(column.text for column in table.columns[:KEYS]), width - INDENT, GAP, joined)


def _panel(table: Table, columns: Sequence[int]) -> Padding:
    # One space of padding and one of the box between columns make the gap.
    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, GAP - 1, 0, 0), show_edge=False)
    for index in columns:
        column = table.columns[index]
        heading = Text("\n".join(_heading(column)))
        width = _width(table, index)
        shown.add_column(heading, justify="left" if column.text else "right", no_wrap=True, min_width=width)
    for row in table.rows:
        heads = not any(cell.text for cell in row[1:])
        shown.add_row(*(Text(row[i].text, style="bold" if heads else _style(row[i])) for i in columns))
    return Padding.indent(shown, INDENT)


def _heading(column: Column) -> list[str]:
    """Heading lines: a metric's reference has a line of its own, which keeps columns narrow."""
    name, at, reference = column.heading.partition("@")
    return [*name.split("\n"), *([at + reference] if at else []), *([part for part in column.remark.split(", ") if part])]


def _squeezed(text: str) -> str:
    return text.replace(" \N{PLUS-MINUS SIGN} ", "\N{PLUS-MINUS SIGN}").replace(" / ", "/")


def _style(cell: Cell) -> str:
    return {"good": "bold green", "bad": "red"}.get(cell.tone, "")


def _width(table: Table, index: int) -> int:
    entries = [row[index].text for row in table.rows]
    return max(map(cell_len, [*_heading(table.columns[index]), *entries]))


def _broken(table: Table, index: int) -> Column:
    """The column with its name broken at the last hyphen, if the name is wider than all that stands under it."""
    column = table.columns[index]
    name, at, reference = column.title.partition("@")
    first, hyphen, last = name.rpartition("-")
    if column.text or not hyphen or cell_len(_heading(column)[0]) <= max(cell_len(row[index].text) for row in table.rows):
        return column
    return replace(column, title=f"{first}{hyphen}\n{last}{at}{reference}")
