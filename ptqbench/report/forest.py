"""Differences to the baseline as forest plots, one a metric, with what each comparison could have seen."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ptqbench.report.chart import BAD, FAINT, GOOD, INK, OPEN, PALE, WIDTH, Chart, file_name
from ptqbench.results.compare import BETTER, WORSE
from ptqbench.results.difference_table import difference_cell
from ptqbench.results.record import Comparison, RunRecord
from ptqbench.results.rows import metric_names, rows_of
from ptqbench.results.tables import Column, metric_column

FAR = 5.0
"""Comparisons that reach this many times further than the median do not stretch the axis: the others would be points."""

ROW = 0.24
"""Inches that a row takes."""

CAPTION = (
    "Method minus {baseline}, with 95 % intervals, from the same noise; {better} is better. A true difference outside the grey "
    "band would have been seen with a chance of 80 % or more.{beyond}"
)
BEYOND = " Triangles at the edge lie beyond it; their numbers stand at the right."


def forests(run: RunRecord) -> list[Chart]:
    """A chart for each metric in which anything was compared."""
    rows = rows_of(run)
    found = []
    for name in metric_names(rows):
        shown = [c for c in run.comparisons if c.metric == name and c.difference is not None]
        if shown:
            found.append(_chart(run, metric_column(name, rows), shown))
    return found


def _chart(run: RunRecord, column: Column, shown: Sequence[Comparison]) -> Chart:
    data = [
        (c.method, c.bits, c.variant, c.baseline, c.difference, c.low, c.high, c.detectable, c.p_adjusted, c.verdict)
        for c in shown
    ]
    names = ["method", "bits", "variant", "baseline", "difference", "low", "high", "detectable", "p_adjusted", "verdict"]
    limit = axis_limit(shown)
    caption = CAPTION.format(
        baseline=run.baseline,
        better="left" if shown[0].better == "lower" else "right",
        beyond=BEYOND if any(abs(c.difference or 0.0) > limit for c in shown) else "",
    )
    title = f"{column.key}: differences to {run.baseline}"
    return Chart(file_name("differences", column.key), title, caption, names, data, lambda: _draw(run, column, shown, limit))


def axis_limit(shown: Sequence[Comparison]) -> float:
    """How far the axis reaches to either side of 0: as far as intervals do, but for the few far beyond the others."""
    reach = [max(abs(c.low or 0.0), abs(c.high or 0.0), c.detectable or 0.0) for c in shown]
    near = [x for x in reach if x <= FAR * statistics.median(reach)]
    return 1.05 * max(near, default=0.0) or 1.0


def _draw(run: RunRecord, column: Column, shown: Sequence[Comparison], limit: float) -> Figure:
    settings = list(dict.fromkeys(c.bits for c in shown))
    unit = 10.0**-column.exponent
    lines = len(shown) + len(settings)
    figure = Figure(figsize=(WIDTH, ROW * lines + 0.8), layout="constrained")
    axes = figure.subplots()
    labels: list[tuple[int, str]] = []
    place = 0
    for bits in settings:
        axes.text(-0.01, place, bits, transform=axes.get_yaxis_transform(), ha="right", va="center", weight="bold")
        place += 1
        for c in (c for c in shown if c.bits == bits):
            _row(axes, c, place, unit, limit * unit)
            axes.text(
                1.02,
                place,
                difference_cell(c, column.exponent).text,
                transform=axes.get_yaxis_transform(),
                va="center",
                fontsize=8,
            )
            labels.append((place, f"{c.method} {c.variant}".rstrip()))
            place += 1
    axes.set_yticks([y for y, _ in labels], [text for _, text in labels])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(lines - 0.4, -0.6)
    axes.set_xlim(-limit * unit, limit * unit)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.spines["left"].set_visible(False)
    scale = f" in 1e{column.exponent}" if column.exponent else ""
    axes.set_xlabel(f"{column.key}{scale}, method minus {run.baseline}")
    return figure


def _row(axes: Axes, c: Comparison, place: int, unit: float, limit: float) -> None:
    value, low, high = ((x or 0.0) * unit for x in (c.difference, c.low, c.high))
    colour = {BETTER: GOOD, WORSE: BAD}.get(c.verdict, OPEN)
    axes.axhline(place, color=FAINT, linewidth=0.4, zorder=0)
    if c.detectable:
        axes.barh(place, 2 * c.detectable * unit, left=-c.detectable * unit, height=0.66, color=PALE, alpha=0.3, zorder=1)
    axes.plot([low, high], [place, place], color=colour, linewidth=1.4, zorder=2)
    beyond = abs(value) > limit
    marker = (">" if value > 0 else "<") if beyond else {BETTER: "o", WORSE: "s"}.get(c.verdict, "D")
    at = max(-limit, min(limit, value))
    axes.plot([at], [place], marker=marker, markersize=5, color=colour, zorder=3, clip_on=not beyond)
