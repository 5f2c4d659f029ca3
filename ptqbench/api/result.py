"""A finished comparison in Python. No torch, unless a quantized cell is asked for."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptqbench.api.tables import fit_row, ledger_row, table
from ptqbench.boundary.build import build
from ptqbench.failures import PLUGIN_ERRORS, blamed
from ptqbench.plugin.manager import PluginManager
from ptqbench.recipe.experiment import Experiment
from ptqbench.recipe.select import find_cell
from ptqbench.results.compare import compared
from ptqbench.results.record import CellRecord, RunRecord

if TYPE_CHECKING:
    from ptqbench.api.quantized import Quantized


@dataclass
class Run:
    """What `ptqbench.run` gives, or `Run.load` reads; `print(run)` is the table, `record` has everything.

    `folder` is where it was written to or read from. `tracebacks` are the files that were written of cells that failed, by the
    cell's id, `broken` the errors of reporters whose tables are therefore missing.
    """

    record: RunRecord
    folder: Path | None = None
    experiment: Experiment | None = None
    cache: Path | None = None
    tracebacks: dict[str, Path] = field(default_factory=dict)
    broken: list[BaseException] = field(default_factory=list)

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """A run that was written to a folder (or its results.json). Raises `UserError` for anything else."""
        record = RunRecord.load(Path(folder))
        # Records that are kept in a repository have no comparisons, which follow from their cells.
        return cls(compared(record), Path(folder))

    @property
    def failed(self) -> dict[str, str]:
        """Why cells failed, by their ids."""
        return {cell.id: cell.reason for cell in self.record.cells if cell.status != "ok"}

    def cells(self) -> Any:
        """A row for each cell and metric, and one for a cell that failed: a DataFrame where pandas is installed, else a list of
        dicts. `low` and `high` bound the 95 % interval over the `n` images or trajectories of the cell."""
        return table(row for cell in self.record.cells for row in _metric_rows(cell))

    def differences(self) -> Any:
        """Every method beside the baseline in each metric, with interval, verdict and what could have been seen; the fields of
        `ptqbench.results.record.Comparison`."""
        return table(map(dataclasses.asdict, self.record.comparisons))

    def ledger(self, cell: str | None = None) -> Any:
        """What the bits of a cell, or of all, meant: a row for each layer and each site of an attention.

        Raises `UserError` for a cell that is not in the run.
        """
        return table({"cell": found.id, **ledger_row(row)} for found in self._cells(cell) for row in found.ledger)

    def fits(self, cell: str | None = None) -> Any:
        """What each unit of each phase of a cell, or of all, came to: losses before, soft and hardened, the share of undecided
        roundings, what weights learned: those fields of `ptqbench.results.fits.FitQuality` that are one number.

        Raises `UserError` for a cell that is not in the run.
        """
        return table({"cell": found.id, **fit_row(fit)} for found in self._cells(cell) for fit in found.fits)

    def _cells(self, cell: str | None) -> list[CellRecord]:
        return self.record.cells if cell is None else [find_cell(self.record.cells, cell, "run")]

    def quantized(
        self,
        cell: str,
        *,
        cache: str | Path | None = None,
        device: str | None = None,
        progress: Callable[[str, float], None] = lambda *_: None,
    ) -> Quantized:
        """The quantized denoiser of a cell, from the run's `cache`, or computed as far as that lacks it; on the run's kind of
        device unless another is named. `progress` is told what is done and how far it is in [0, 1].

        Raises `UserError` for a cell that is not in the run, that failed, or that quantizes nothing, and where today's program
        or plugins make another method of the run's recipe.
        """
        from ptqbench.api.cell import open_cell

        return open_cell(self.record, self.experiment, cell, cache or self.cache, device, progress).quantized

    def text(self, width: int | None = None) -> str:
        """The tables as the terminal shows them, `width` columns wide."""
        reporter = build(PluginManager().default("reporter", "terminal"))
        rendered: str = reporter.render(self.record, width=width)
        return rendered

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return f"<Run {self.record.name}: {len(self.record.cells)} cells{failed}>"


@contextlib.contextmanager
def later(broken: list[BaseException]) -> Iterator[None]:
    """Adds what goes wrong in the block to the list: a reporter that fails spoils its own table, and nothing that follows."""
    try:
        with blamed("the report"):
            yield
    except PLUGIN_ERRORS as error:
        broken.append(error)


def _metric_rows(cell: CellRecord) -> list[dict[str, Any]]:
    common = {"cell": cell.id, "method": cell.method, "bits": cell.bits, "variant": cell.variant, "seed": cell.seed}
    common |= {"status": cell.status, "reason": cell.reason}
    empty = dict.fromkeys(("metric", "value", "low", "high", "n", "unit", "better", "protocol"))
    rows = [
        {"metric": name, "value": x.value, "low": x.low, "high": x.high, "n": x.n}
        | {"unit": x.unit, "better": x.better, "protocol": x.protocol}
        for name, x in cell.metrics.items()
    ]
    return [common | row for row in rows or [empty]]
