"""Many runs: found below a folder, each in a line with its verdicts, and a metric of a recipe's rows from run to run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ptqbench.errors import UserError
from ptqbench.plugin.names import FULL_PRECISION
from ptqbench.results import formatting
from ptqbench.results.compare import compared
from ptqbench.results.headline import headline
from ptqbench.results.protocols import identity, in_place, mismatch
from ptqbench.results.record import RESULTS, RunRecord
from ptqbench.results.rows import Summary, metric_names, rows_of
from ptqbench.results.tables import NOTHING, Cell, Column, Line, Table


@dataclass(frozen=True)
class Past:
    """A run and the folder that it was read from."""

    folder: Path
    record: RunRecord

    @property
    def when(self) -> str:
        """The minute at which it was made, in local time."""
        try:
            return f"{datetime.fromisoformat(self.record.created).astimezone():%Y-%m-%d %H:%M}"
        except ValueError:
            return self.record.created

    @property
    def failed(self) -> list[str]:
        return [cell.id for cell in self.record.cells if cell.status != "ok"]

    @property
    def size(self) -> str:
        """ "9 cells, 1 failed"."""
        return f"{len(self.record.cells)} cells" + (f", {len(self.failed)} failed" if self.failed else "")

    @property
    def verdicts(self) -> list[Line]:
        """The sentences of each bit setting; of a run whose rows all failed, why."""
        rows = [cell for cell in self.record.cells if cell.method != FULL_PRECISION] or self.record.cells
        if all(cell.status != "ok" for cell in rows):
            reasons = dict.fromkeys(formatting.plain(cell.reason.splitlines()[0]) for cell in rows if cell.reason)
            return [Line("", reason) for reason in reasons]
        return headline(self.record)[1:]


def past_runs(folder: Path, left_out: Callable[[str], None]) -> list[Past]:
    """The runs below a folder, the latest first; `left_out` is told why a record cannot be read.

    Raises `UserError` if there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}", "name the one that `ptqbench run --out` wrote to")
    found = []
    for path in sorted(folder.rglob(RESULTS)):
        try:
            record = RunRecord.load(path)
        except UserError as error:
            left_out(error.message)
        else:
            found.append(Past(path.parent, compared(record)))
    return sorted(found, key=lambda past: past.record.created, reverse=True)


def history_table(runs: Sequence[Past], most: int = 6) -> Table | None:
    """The first metric of a recipe's rows in its latest runs, the latest first; None where one run is all there is.

    Runs of one recipe may differ in its values: a row stands for what it was called. A number under another protocol than the
    row's latest, or under none, is not shown.
    """
    shown = runs[:most]
    metrics = metric_names(rows_of(shown[0].record)) if shown else []
    if len(shown) < 2 or not metrics:
        return None
    metric = metrics[0]
    found = [_numbers(past.record, metric) for past in shown]
    latest = {label: x[1] for rows in reversed(found) for label, x in rows.items() if not isinstance(x, str)}
    labels = dict.fromkeys(label for rows in found for label in rows)
    power = formatting.power_of_thousand([x[0].value for rows in found for x in rows.values() if not isinstance(x, str)])
    columns = [Column("row", "row", text=True), *(Column(f"run{i}", past.when) for i, past in enumerate(shown))]
    entries = [
        [Cell(label), *(_entry(rows.get(label, NOTHING), latest.get(label, ""), 10.0**-power) for rows in found)]
        for label in labels
    ]
    title = f"{metric} from run to run" + (f", in 1e{power}" if power else "")
    return Table(title, columns, entries, ["Means over calibration seeds, with 95 % intervals over images."])


def _numbers(run: RunRecord, metric: str) -> dict[str, tuple[Summary, str] | str]:
    """The metric of each row that has it, and its protocol; the words in place of one that its own run refuses."""
    found: dict[str, tuple[Summary, str] | str] = {}
    for row in rows_of(run):
        if metric in row.metrics:
            numbers = [cell.metrics[metric] for cell in row.cells if metric in cell.metrics]
            found[row.label] = row.metrics[metric], identity(numbers)
        elif why := row.refused.get(metric):
            found[row.label] = in_place(why)
    return found


def _entry(number: tuple[Summary, str] | str, latest: str, unit: float) -> Cell:
    if isinstance(number, str):
        return Cell(number)
    value, protocol = number
    if why := mismatch(protocol, latest):
        return Cell(in_place(why))
    shown = (unit * x for x in (value.value, value.low, value.high))
    return Cell(formatting.measured(*shown), value.value, value.low, value.high)
