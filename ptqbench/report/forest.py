"""Differences to the baseline as forest plots, one a metric, with what each comparison could have seen."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ptqbench.report.chart import BAD, FAINT, GOOD, INK, OPEN, PALE, WIDTH, Chart, file_name
from ptqbench.results.compare import BETTER, WORSE
from ptqbench.results.difference_table import difference_cell
from ptqbench.results.record import Comparison, RunRecord
from ptqbench.results.rows import metric_names, rows_of
from ptqbench.results.tables import Column, metric_column

FAR = 5.0
"""Comparisons that reach this many times further than the median do not stretch their axis: the others would be points."""

ROW = 0.24
"""Inches that a row takes."""

CAPTION = (
    "Method minus {baseline}, with 95 % intervals, from the same noise; {better} is better. A true difference outside the grey "
    "band would have been seen with a chance of 80 % or more.{apart}{beyond}"
)
APART = " Each bit setting has an axis of its own."
BEYOND = " What ends in an arrow at the edge, and a band that reaches it, goes on beyond; numbers stand at the right."


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
    panels = {bits: [c for c in shown if c.bits == bits] for bits in dict.fromkeys(c.bits for c in shown)}
    caption = CAPTION.format(
        baseline=run.baseline,
        better="left" if shown[0].better == "lower" else "right",
        apart=APART if len(panels) > 1 else "",
        beyond=BEYOND if any(_reach(c) > axis_limit(own) for own in panels.values() for c in own) else "",
    )
    title = f"{column.key}: differences to {run.baseline}"
    return Chart(file_name("differences", column.key), title, caption, names, data, lambda: _draw(run, column, panels))


def _reach(c: Comparison) -> float:
    return max(abs(c.low or 0.0), abs(c.high or 0.0), c.detectable or 0.0)


def axis_limit(shown: Sequence[Comparison]) -> float:
    """How far the axis reaches to either side of 0: as far as intervals do, but for those far beyond the others."""
    reach = [_reach(c) for c in shown]
    near = [x for x in reach if x <= FAR * statistics.median_low(reach)]
    return 1.05 * max(near, default=0.0) or 1.0


def _draw(run: RunRecord, column: Column, panels: Mapping[str, Sequence[Comparison]]) -> Figure:
    heights = [len(own) + 2.5 for own in panels.values()]
    figure = Figure(figsize=(WIDTH, ROW * sum(heights) + 0.25), layout="constrained")
    places: list[Axes] = figure.subplots(len(panels), squeeze=False, height_ratios=heights).ravel().tolist()
    for axes, (bits, own) in zip(places, panels.items(), strict=True):
        _panel(axes, own, column.exponent)
        axes.text(-0.01, 1.0, bits, transform=axes.transAxes, ha="right", va="bottom", weight="bold")
    scale = f" in 1e{column.exponent}" if column.exponent else ""
    places[-1].set_xlabel(f"{column.key}{scale}, method minus {run.baseline}")
    return figure


def _panel(axes: Axes, own: Sequence[Comparison], exponent: int) -> None:
    unit = 10.0**-exponent
    limit = axis_limit(own) * unit
    right = axes.get_yaxis_transform()
    for place, c in enumerate(own):
        _row(axes, c, place, unit, limit)
        axes.text(1.02, place, difference_cell(c, exponent).text, transform=right, va="center", fontsize=8)
    axes.set_yticks(range(len(own)), [f"{c.method} {c.variant}".rstrip() for c in own])
    axes.tick_params(axis="y", length=0, pad=6)
    axes.set_ylim(len(own) - 0.4, -0.6)
    axes.set_xlim(-limit, limit)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.spines["left"].set_visible(False)


def _row(axes: Axes, c: Comparison, place: int, unit: float, limit: float) -> None:
    value, low, high = ((x or 0.0) * unit for x in (c.difference, c.low, c.high))
    colour = {BETTER: GOOD, WORSE: BAD}.get(c.verdict, OPEN)
    axes.axhline(place, color=FAINT, linewidth=0.4, zorder=0)
    if c.detectable:
        axes.barh(place, 2 * c.detectable * unit, left=-c.detectable * unit, height=0.66, color=PALE, alpha=0.3, zorder=1)
    axes.plot([low, high], [place, place], color=colour, linewidth=1.4, zorder=2)
    for edge, marker, beyond in ((-limit, "<", min(value, low) < -limit), (limit, ">", max(value, high) > limit)):
        if beyond:
            axes.plot([edge], [place], marker=marker, markersize=5, color=colour, zorder=3, clip_on=False)
    if abs(value) <= limit:
        marker = {BETTER: "o", WORSE: "s"}.get(c.verdict, "D")
        axes.plot([value], [place], marker=marker, markersize=5, color=colour, zorder=3)
