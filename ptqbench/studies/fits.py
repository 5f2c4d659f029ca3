"""What the units of a run came to, from its record."""

from __future__ import annotations

from collections.abc import Sequence

from ptqbench.errors import UserError
from ptqbench.results.fit_tables import fitted_rows
from ptqbench.results.record import RunRecord
from ptqbench.results.rows import Row


def chosen_rows(run: RunRecord, wanted: Sequence[str] = ()) -> list[Row]:
    """The rows whose cells say what their units came to; of some methods only, if any are named.

    Raises `UserError` where there are none.
    """
    rows = fitted_rows(run)
    if not rows:
        raise UserError("no cell of this run says what its units came to", "run the recipe again with methods that fit units")
    known = dict.fromkeys(row.method for row in rows)
    if unknown := [name for name in wanted if name not in known]:
        raise UserError(f"this run has no fits of {', '.join(unknown)}", f"there are: {', '.join(known)}")
    return [row for row in rows if not wanted or row.method in wanted]
