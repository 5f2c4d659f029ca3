"""Which numbers may stand side by side: those with one protocol id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ptqbench.results.record import CellRecord, Number

REMEDY = "run both under one recipe and one version of ptqbench"

ANOTHER = "other protocol"
"""What stands in a table in place of a number that must not stand there."""

UNNAMED = "no protocol id"
"""The same for a number that does not say how it was measured, as those of early records."""


def identity(numbers: Sequence[Number]) -> str:
    """The protocol id that all of them share; several ids joined by "+"; empty where one has none."""
    ids = list(dict.fromkeys(number.protocol for number in numbers))
    return "" if "" in ids else "+".join(ids)


def mismatch(ours: str, theirs: str) -> str:
    """Why two numbers with these protocol ids are not comparable; empty when they are."""
    if several := next((ids for ids in (ours, theirs) if "+" in ids), ""):
        return f"calibration seeds measured under several protocols ({several}): {REMEDY}"
    if not ours or not theirs:
        sides = "either" if ours == theirs else "one"
        return f"{UNNAMED} on {sides} side, so nothing says that they were measured alike: {REMEDY}"
    return "" if ours == theirs else f"measured under another protocol ({ours} against {theirs}): {REMEDY}"


def in_place(reason: str) -> str:
    """The words in place of a number that was refused for this reason."""
    return UNNAMED if UNNAMED in reason else ANOTHER


def refused(metric: str, rows: Mapping[int, Sequence[CellRecord]], first: int | None) -> dict[int, str]:
    """Rows (by key) whose number for `metric` must not stand in the column, with the reason.

    The column keeps the protocol of row `first` (the baseline) where it has one, else the most frequent.
    """
    ids = {
        key: identity([cell.metrics[metric] for cell in cells if metric in cell.metrics])
        for key, cells in rows.items()
        if any(metric in cell.metrics for cell in cells)
    }
    valid = Counter(x for x in ids.values() if x and "+" not in x)
    leading = ids.get(first, "") if first is not None else ""
    kept = leading if leading in valid else next(iter(dict(valid.most_common(1))), "")
    return {key: f"{metric} {mismatch(x, kept)}" for key, x in ids.items() if mismatch(x, kept)}
