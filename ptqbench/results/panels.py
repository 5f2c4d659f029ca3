"""Tables that are too wide for a terminal become several, one below the other."""

from __future__ import annotations

from collections.abc import Sequence


def panels(widths: Sequence[int], keys: int, room: int, gap: int) -> list[list[int]]:
    """Column numbers of each table to print, in order; the first `keys` columns, which name rows, stand in every one.

    `widths` are those of the columns, `gap` is what lies between two of them, and `room` is what a table may take. A column
    that does not fit even beside the first ones gets a table of its own.
    """
    first = list(range(min(keys, len(widths))))
    found = [[*first]]
    for index in range(len(first), len(widths)):
        columns = [*found[-1], index]
        if sum(widths[i] + gap for i in columns) - gap > room and len(found[-1]) > len(first):
            found.append([*first])
        found[-1].append(index)
    return found
