"""What the gate compares: a run's table reduced to what a baseline keeps, the same for both sides."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ptqbench.plugin.names import row_name
from ptqbench.results.protocols import identity
from ptqbench.results.record import CellRecord, Number, RunRecord
from ptqbench.results.rows import Row, failures, rows_of

DIGITS = 6
"""Significant digits of stored figures: rounding stays far below the error of a paired difference."""

Scalar = str | int | float | bool


@dataclass(frozen=True)
class Measure:
    """A metric of one cell, averaged over calibration seeds; `spread` is the standard deviation over them, if several.

    `by_seed` has the value of each seed in the order of the cell's `seeds`; empty for one seed, or where one has none.
    `band` is the tolerated difference; a run has none of its own, so that it stays 0 until it becomes a baseline.
    """

    better: str
    value: float
    low: float
    high: float
    n: int
    protocol: str = ""
    spread: float | None = None
    by_seed: tuple[float, ...] = ()
    replicates: tuple[float, ...] = ()
    band: float = 0.0

    @property
    def half(self) -> float:
        """Half of the 95 % interval; the longer side, since a distance's interval may be cut at zero."""
        return max(self.high - self.value, self.value - self.low)


@dataclass(frozen=True)
class Entry:
    """One cell of the gate: method x bits x variant. `failed` says why it has no numbers; `seeds` are the calibrations
    averaged (none for full precision, which has no calibration). `state` is a hash of the quantized weights and grids of all
    of them; it is the same on a machine of the same kind only."""

    bits: str
    ledger: str
    weight_bytes: int
    seeds: tuple[int, ...]
    seconds: float
    peak_mib: float
    metrics: dict[str, Measure] = field(default_factory=dict)
    failed: str = ""
    state: str = ""


@dataclass(frozen=True)
class Change:
    """Why a baseline was written: the date and the reason given."""

    date: str
    reason: str


@dataclass(frozen=True)
class Snapshot:
    """A run or a baseline. `image_seed` names the noise that images start from; paired replicates need equal noise.

    `invocation` has the words after `ptqbench run` that repeat a run; a baseline keeps none.
    """

    recipe: str
    digest: str
    created: str
    image_seed: int | None
    environment: dict[str, Scalar]
    cells: dict[str, Entry]
    history: tuple[Change, ...] = ()
    invocation: tuple[str, ...] = ()


def rounded(value: float) -> float:
    """A figure with as many digits as a baseline stores."""
    return float(f"{value:.{DIGITS}g}")


def snapshot(run: RunRecord) -> Snapshot:
    """A run as the gate sees it, with figures rounded as in a baseline."""
    seed = run.protocol.get("image seed")
    environment = {key: _scalar(value) for key, value in run.environment.items()}
    cells = {row_id(row): _entry(row) for row in rows_of(run)}
    known = seed if isinstance(seed, int) else None
    words = tuple(run.invocation) or (f"{run.name}.toml",)
    return Snapshot(run.name, run.digest, run.created, known, environment, cells, invocation=words)


def row_id(row: Row) -> str:
    """The ids of the row's cells without their seed."""
    return row.method if row.full_precision else row_name(row.method, row.bits, row.variant)


def _scalar(value: object) -> Scalar:
    return value if isinstance(value, str | int | float | bool) else str(value)


def _entry(row: Row) -> Entry:
    cells = sorted(row.cells, key=lambda cell: cell.seed)
    names = dict.fromkeys(name for cell in cells for name in cell.metrics)
    return Entry(
        bits=row.bits,
        ledger=_common(cell.ledger_hash for cell in cells),
        weight_bytes=max((cell.weight_bytes for cell in cells), default=0),
        seeds=() if row.full_precision else tuple(cell.seed for cell in cells),
        seconds=_mean(cells, lambda cell: sum(cost.seconds for cost in cell.cost.values())),
        peak_mib=_mean(cells, lambda cell: max((cost.peak_mib for cost in cell.cost.values()), default=0.0)),
        metrics={name: _measure([cell.metrics[name] for cell in cells if name in cell.metrics]) for name in names},
        failed="; ".join(f"{seeds}: {reason}" for reason, seeds in failures(row.failed).items()),
        state=_state(cells),
    )


def _mean(cells: Sequence[CellRecord], figure: Callable[[CellRecord], float]) -> float:
    return float(f"{statistics.fmean(map(figure, cells)):.3g}") if cells else 0.0


def _state(cells: Sequence[CellRecord]) -> str:
    """One hash over the seeds' weights and grids; empty where one is not known."""
    states = [cell.state_hash for cell in cells]
    return hashlib.sha256("\n".join(states).encode()).hexdigest()[:12] if states and all(states) else ""


def _common(texts: Iterable[str]) -> str:
    """What all seeds have in common, or all that there is."""
    return "+".join(sorted(set(texts)))


def _measure(numbers: Sequence[Number]) -> Measure:
    """Means over seeds, given in their order. They share their images' noise and blocks, so replicates average like values."""
    values = [x.value for x in numbers]
    blocks = {len(x.replicates) for x in numbers}
    paired = zip(*(x.replicates for x in numbers), strict=True) if len(blocks) == 1 else ()
    return Measure(
        better=numbers[0].better,
        value=rounded(statistics.fmean(values)),
        low=rounded(statistics.fmean(x.low for x in numbers)),
        high=rounded(statistics.fmean(x.high for x in numbers)),
        n=min(x.n for x in numbers),
        protocol=identity(numbers),
        spread=rounded(float(np.std(values, ddof=1))) if len(values) > 1 else None,
        by_seed=tuple(map(rounded, values)) if len(values) > 1 else (),
        replicates=tuple(rounded(statistics.fmean(block)) for block in paired),
    )
