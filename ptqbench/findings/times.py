"""How long fits took, from the seconds that kept records have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ptqbench.errors import UserError
from ptqbench.evaluate.intervals import Interval, mean_interval
from ptqbench.findings.document import TimeRatio
from ptqbench.findings.judge import row_of
from ptqbench.results.costs import fitting_seconds
from ptqbench.results.record import CellRecord, RunRecord


@dataclass(frozen=True)
class TimeAnswer:
    """Mean seconds of fitting of both rows, and the mean ratio over the calibration seeds with Student's interval."""

    asked: TimeRatio
    seconds: float
    base_seconds: float
    ratio: Interval
    seeds: int


def time_ratio(asked: TimeRatio, records: Mapping[str, RunRecord]) -> TimeAnswer:
    """The ratio is taken seed by seed. Raises `UserError` for rows that are not there or have fewer than two common seeds."""
    own, theirs = (_seconds(row_of(records[asked.run], name).cells) for name in (asked.ours, asked.theirs))
    seeds = sorted(own.keys() & theirs.keys())
    if len(seeds) < 2:
        raise UserError(
            f"{asked.run}: {asked.ours} and {asked.theirs} were fitted on {len(seeds)} common seeds",
            "a ratio with an interval needs two of them",
        )
    ratio = mean_interval([own[seed] / theirs[seed] for seed in seeds])
    seconds, base = (sum(x[seed] for seed in seeds) / len(seeds) for x in (own, theirs))
    return TimeAnswer(asked, seconds, base, ratio, len(seeds))


def _seconds(cells: Sequence[CellRecord]) -> dict[int, float]:
    """By seed, what fitting took; cells that fitted nothing are left out."""
    found = {cell.seed: fitting_seconds(cell.cost) for cell in cells}
    return {seed: seconds for seed, seconds in found.items() if seconds > 0}
