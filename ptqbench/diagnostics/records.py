"""What finished cells say beside their fits: the cost of a weighter, and the error of the noise prediction by timestep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ptqbench.diagnostics.arms import is_counterpart
from ptqbench.diagnostics.collect import Observation
from ptqbench.diagnostics.statistics import Spread, over_seeds
from ptqbench.errors import UserError
from ptqbench.recipe.experiment import Cell
from ptqbench.report.chart import Chart
from ptqbench.report.series import timesteps
from ptqbench.results.costs import fitting_seconds
from ptqbench.results.record import CellRecord, RunRecord
from ptqbench.running.cell import cell_key
from ptqbench.stage.context import RunContext

Records = dict[str, CellRecord]
"""Records of finished cells, by the cell's id."""


def finished_cells(ctx: RunContext, cells: Sequence[Cell]) -> Records:
    """The records that an earlier `ptqbench run` left in the cache."""
    found: Records = {}
    for cell in cells:
        try:
            entry = ctx.cache.entry("cells", cell_key(ctx, cell))
        except UserError:
            # The key names the feature extractor's weights. Without them no cell was ever measured here.
            return {}
        if entry.has("record.json"):
            found[cell.id] = CellRecord.from_dict(entry.load_json("record.json"))
    return found


@dataclass(frozen=True)
class Cost:
    """Seconds of fitting all units with a weighter, relative to the counterpart that weighs all samples alike.

    `source` is "run" where both cells' seconds are those of finished runs, else "diagnosis": the observed fits, without
    the measuring.
    """

    title: str
    counterpart: str
    source: str
    seeds: list[int]
    seconds: list[float]
    counterpart_seconds: list[float]
    ratio: Spread

    @property
    def ratios(self) -> list[float]:
        """By seed."""
        return [a / b for a, b in zip(self.seconds, self.counterpart_seconds, strict=True)]


def weighter_costs(observations: Sequence[Observation], records: Records) -> list[Cost]:
    """One for each method, bits and variant that has a counterpart."""
    cells = {o.cell.id: o.cell for o in observations}
    pairs: dict[str, list[tuple[Cell, Cell]]] = {}
    for cell in cells.values():
        other = next((o for o in cells.values() if o.seed == cell.seed and is_counterpart(cell, o)), None)
        if other is not None:
            pairs.setdefault(cell_title(cell), []).append((cell, other))
    return [_cost(title, own, observations, records) for title, own in pairs.items()]


def cell_title(cell: Cell) -> str:
    """Method, variant and bits, without the seed."""
    return " ".join(filter(None, (cell.name, cell.variant, cell.bits)))


def _cost(title: str, pairs: Sequence[tuple[Cell, Cell]], observations: Sequence[Observation], records: Records) -> Cost:
    recorded = all(cell.id in records for pair in pairs for cell in pair)

    def seconds(cell: Cell) -> float:
        if recorded:
            return fitting_seconds(records[cell.id].cost)
        return sum(o.seconds for o in observations if o.cell.id == cell.id)

    own, theirs = [seconds(cell) for cell, _ in pairs], [seconds(other) for _, other in pairs]
    ratio = over_seeds([a / b for a, b in zip(own, theirs, strict=True)])
    source = "run" if recorded else "diagnosis"
    return Cost(title, cell_title(pairs[0][1]), source, [cell.seed for cell, _ in pairs], own, theirs, ratio)


def noise_errors(records: Records) -> list[Chart]:
    """The report's charts of metrics by timestep, as the error of the noise prediction on held-out trajectories is."""
    return timesteps(RunRecord("", "", "", "", "", "", {}, {}, list(records.values())))
