"""Tables that are too wide for a terminal become several, one below the other."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def panels(widths: Sequence[int], keys: int, room: int, gap: int, joined: Collection[int] = ()) -> list[list[int]]:
    """Column numbers of each table to print, in order; the first `keys` columns, which name rows, stand in every one.

    `widths` are those of the columns, `gap` is what lies between two of them, and `room` is what a table may take. A column
    that does not fit even beside the first ones gets a table of its own. The `joined` ones stay beside the one before them,
    unless the two together do not fit anywhere.
    """
    first = list(range(min(keys, len(widths))))
    found = [[*first]]
    rest = range(len(first), len(widths))

    def fits(columns: Sequence[int]) -> bool:
        return sum(widths[i] + gap for i in columns) - gap <= room

    for index in rest:
        # What has to come along decides whether there is room.
        group = [index, *([index + 1] if index + 1 in rest and index + 1 in joined else [])]
        wanted = group if fits([*first, *group]) else [index]
        if not fits([*found[-1], *wanted]) and len(found[-1]) > len(first):
            found.append([*first])
        found[-1].append(index)
    return found
