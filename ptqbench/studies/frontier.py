"""What a fit's length buys: a metric and its spread over calibration seeds against the seconds that fitting took."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ptqbench.errors import UserError
from ptqbench.results.costs import fitting_seconds
from ptqbench.results.formatting import significant
from ptqbench.results.record import RunRecord
from ptqbench.results.rows import Row, rows_of
from ptqbench.results.tables import NOTHING, Cell, Column, Table


@dataclass(frozen=True)
class Point:
    """A row of the run: the metric's mean over calibration seeds, its standard deviation over them as a share of the mean
    (None for one seed), and the mean seconds of fitting a cell, captures included.

    `best` if no other row at the same bits is at least as good in the metric for less time.
    """

    method: str
    bits: str
    value: float
    spread: float | None
    seconds: float
    seeds: int
    best: bool = False


def frontier(run: RunRecord, metric: str) -> list[Point]:
    """The rows that fit something, by bits and then from the quickest on.

    Raises `UserError` if no such row has the metric.
    """
    points = [point for row in rows_of(run) if (point := _point(row, metric)) is not None]
    if not points:
        known = sorted({name for row in rows_of(run) for name in row.metrics})
        raise UserError(f"no fitted row of this run has the metric {metric!r}", f"there are: {', '.join(known)}")
    points.sort(key=lambda p: (p.bits, p.seconds))
    return [Point(**{**vars(p), "best": not any(_beats(q, p) for q in points)}) for p in points]


def _point(row: Row, metric: str) -> Point | None:
    seconds = row.mean(lambda cell: fitting_seconds(cell.cost))
    if metric not in row.metrics or not seconds:
        return None
    found = row.metrics[metric]
    if found.better != "lower":
        raise UserError(f"{metric} is better when it is higher", "choose an error, for example latent-error")
    spread = None if found.spread is None or found.value == 0 else found.spread / found.value
    return Point(f"{row.method} {row.variant}".rstrip(), row.bits, found.value, spread, seconds, len(found.seeds))


def _beats(one: Point, other: Point) -> bool:
    if one.bits != other.bits or one is other:
        return False
    return (
        one.value <= other.value and one.seconds <= other.seconds and (one.value, one.seconds) != (other.value, other.seconds)
    )


def frontier_table(points: Sequence[Point], metric: str) -> Table:
    """One row a point; a star marks the frontier."""
    columns = [Column("method", "method", text=True), Column("bits", "bits", text=True)]
    columns += [Column("value", metric, better="lower"), Column("spread", "spread", remark="% of the mean")]
    columns += [Column("seeds", "seeds"), Column("seconds", "seconds", remark="fitting a cell")]
    rows = [
        [
            Cell(f"{p.method} *" if p.best else p.method),
            Cell(p.bits),
            Cell(significant(p.value, 3), value=p.value),
            Cell(NOTHING if p.spread is None else f"{100 * p.spread:.1f}", value=p.spread),
            Cell(str(p.seeds), value=p.seeds),
            Cell(f"{p.seconds:.0f}", value=p.seconds),
        ]
        for p in points
    ]
    known = [p.spread for p in points if p.spread is not None]
    notes = ["* nothing else at these bits is as good for less time. Seconds count captures and all units of a cell."]
    if known:
        notes.append(f"spread: standard deviation over calibration seeds; its median over the rows is {_median(known)} %.")
    return Table(f"{metric} against seconds of fitting", columns, rows, notes)


def _median(spreads: Sequence[float]) -> str:
    return f"{100 * statistics.median(spreads):.1f}"


def frontier_picture(points: Sequence[Point], metric: str, path: Path) -> None:
    """Error against seconds, both logarithmic, a panel for each bit setting; bars are one standard deviation over seeds."""
    from matplotlib.figure import Figure

    bits = list(dict.fromkeys(p.bits for p in points))
    figure = Figure(figsize=(6.4 * len(bits), 4.4), layout="constrained")
    for axes, setting in zip(figure.subplots(1, len(bits), squeeze=False)[0], bits, strict=True):
        own = [p for p in points if p.bits == setting]
        axes.errorbar(
            [p.seconds for p in own],
            [p.value for p in own],
            yerr=[p.value * (p.spread or 0.0) for p in own],
            fmt="o",
            color="#0072B2",
        )
        edge = [p for p in own if p.best]
        axes.plot([p.seconds for p in edge], [p.value for p in edge], "-", color="#D55E00")
        for p in own:
            axes.annotate(p.method, (p.seconds, p.value), textcoords="offset points", xytext=(5, 4), fontsize=7)
        axes.set(xscale="log", yscale="log", xlabel="seconds of fitting a cell", ylabel=metric, title=setting)
    figure.savefig(path, dpi=130)
