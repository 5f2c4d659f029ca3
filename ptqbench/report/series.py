"""Charts that follow methods over something: quality against bytes, error over sampling steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from ptqbench.report.chart import MARKERS, SERIES, WIDTH, Chart, Value, file_name
from ptqbench.results.record import RunRecord
from ptqbench.results.rows import Row, metric_names, rows_of
from ptqbench.results.tables import size_cell
from ptqbench.results.uncertainty import interval, spreads

WIDE = 10.0
"""Values that span more than this are drawn on a logarithmic axis."""

NEARLY = 1.05
"""Sizes that differ by less than this factor are drawn beside each other."""

APART, MOST_APART = 11.0, 330.0
"""How far from each other, and how far all of them together, in 1/72 inch."""

T, ERROR = "t", "error"
"""Lists of `Number.detail` that say where along the trajectory a metric's error lies."""


def quality(run: RunRecord) -> list[Chart]:
    """A chart for each metric: values of all rows against the bytes of their weights."""
    rows = [row for row in rows_of(run) if size_cell(row).value]
    return [
        _quality(name, found, rows)
        for name in metric_names(rows)
        if len(found := [row for row in rows if name in row.metrics]) > 1
    ]


def _quality(name: str, found: Sequence[Row], rows: Sequence[Row]) -> Chart:
    spread = spreads(list(rows), name)
    points = []
    for row in found:
        low, high = interval(row.metrics[name], spread.get(row.bits))
        points.append((row, size_cell(row).value or 0.0, row.metrics[name].value, low, high))
    better = found[0].metrics[name].better
    data: list[Sequence[Value]] = [(*row.key, kib, value, low, high) for row, kib, value, low, high in points]
    looks = _looks(rows)

    def draw() -> Figure:
        figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
        axes = figure.subplots()
        places = _beside([kib for _, kib, *_ in points])
        shifts = [ScaledTranslation(place / 72, 0, figure.dpi_scale_trans) for place in places]
        for (row, kib, value, low, high), shift in zip(points, shifts, strict=True):
            sides = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
            axes.errorbar(
                [kib], [value], sides, **looks[_name(row)], linestyle="none", elinewidth=1, label=_name(row),
                transform=axes.transData + shift,
            )  # fmt: skip
            # What is moved aside is not seen by the axes.
            axes.update_datalim([(kib, low), (kib, value), (kib, high)])
        sizes = [kib for _, kib, *_ in points]
        # Room for what is moved aside at either end.
        room = max(1.15, (max(sizes) / min(sizes)) ** 0.2)
        axes.set_xlim(min(sizes) / room, max(sizes) * room)
        _scale(axes.set_xscale, axes.xaxis, sizes, 4.0)
        _scale(axes.set_yscale, axes.yaxis, [y for *_, value, low, _ in points for y in (value, low)])
        axes.autoscale_view(scalex=False)
        settings = sorted(dict.fromkeys(row.bits for row in found), key=lambda b: min(p[1] for p in points if p[0].bits == b))
        for level, bits in enumerate(settings):
            own = [i for i, (row, *_) in enumerate(points) if row.bits == bits]
            shift = ScaledTranslation(
                float(np.mean([places[i] for i in own])) / 72, 0.06 + 0.14 * (level % 2), figure.dpi_scale_trans
            )
            middle = float(np.mean([sizes[i] for i in own]))
            axes.text(middle, 1.0, bits, transform=axes.get_xaxis_transform() + shift, ha="center", va="bottom", fontsize=8)
        axes.set_xlabel("weights in KiB, counted, quantization simulated")
        axes.set_ylabel(name)
        _legend(figure, [axes])
        return figure

    arrow = "down" if better == "lower" else "up"
    caption = (
        f"{name} against the bytes of the weights with their scales and of what stays in full precision; better is {arrow} "
        "and left. Bars are 95 % intervals over images and calibration seeds together. Points of nearly equal bytes stand "
        "side by side around their place."
    )
    columns = ("method", "bits", "variant", "kib", "value", "low", "high")
    return Chart(file_name("quality", name), f"{name} against bytes", caption, columns, data, draw)


def timesteps(run: RunRecord) -> list[Chart]:
    """A chart for each metric that says where along the trajectory its error lies, with a panel for each bit setting."""
    rows = rows_of(run)
    return [_timesteps(name, found, rows) for name in metric_names(rows) if (found := _curves(rows, name))]


Curve = tuple[Row, list[float], list[float]]


def _curves(rows: Sequence[Row], name: str) -> list[Curve]:
    """Timesteps and errors, means over calibration seeds, of every row that has them."""
    found = []
    for row in rows:
        details = [cell.metrics[name].detail for cell in row.cells if name in cell.metrics]
        usable = [x for x in details if x.get(T) and len(x[T]) == len(x.get(ERROR, ())) and x[T] == details[0].get(T)]
        if usable and name in row.metrics:
            found.append((row, usable[0][T], np.mean([x[ERROR] for x in usable], axis=0).tolist()))
    return found


def _timesteps(name: str, curves: Sequence[Curve], rows: Sequence[Row]) -> Chart:
    settings = list(dict.fromkeys(row.bits for row, *_ in curves))
    data: list[Sequence[Value]] = [(*row.key, t, e) for row, ts, es in curves for t, e in zip(ts, es, strict=True)]
    looks = _looks(rows)

    def draw() -> Figure:
        across = min(2, len(settings))
        down = -(-len(settings) // across)
        figure = Figure(figsize=(WIDTH, 2.6 * down + 0.8), layout="constrained")
        panels: list[Axes] = figure.subplots(down, across, squeeze=False, sharey=True).ravel().tolist()
        for axes, bits in zip(panels, settings, strict=False):
            for row, ts, es in curves:
                if row.bits == bits:
                    axes.plot(ts, es, **looks[_name(row)], linewidth=1.2, label=_name(row))
            axes.set_title(bits)
            axes.invert_xaxis()
            axes.set_xlabel("timestep, from noise to image")
        _scale(panels[0].set_yscale, panels[0].yaxis, [e for *_, es in curves for e in es])
        panels[0].set_ylabel(name)
        for unused in panels[len(settings) :]:
            unused.remove()
        _legend(figure, panels[: len(settings)])
        return figure

    caption = (
        f"{name} at each sampling step, means over trajectories and calibration seeds; noise at the left, image at the right."
    )
    columns = ("method", "bits", "variant", "t", "error")
    return Chart(file_name("timesteps", name), f"{name} by timestep", caption, columns, data, draw)


def _name(row: Row) -> str:
    return f"{row.method} {row.variant}".rstrip()


def _looks(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Colour and marker of every method, the same in all charts of a run."""
    return {
        name: {"color": SERIES[i % len(SERIES)], "marker": MARKERS[i % len(MARKERS)], "markersize": 4}
        for i, name in enumerate(dict.fromkeys(map(_name, rows)))
    }


def _beside(sizes: Sequence[float]) -> list[float]:
    """Points of 1/72 inch by which each place moves aside, so that nearly equal sizes do not cover each other."""
    order = sorted(range(len(sizes)), key=lambda i: sizes[i])
    groups: list[list[int]] = []
    for i in order:
        if groups and sizes[i] <= NEARLY * sizes[groups[-1][0]]:
            groups[-1].append(i)
        else:
            groups.append([i])
    found = [0.0] * len(sizes)
    for group in groups:
        step = min(APART, MOST_APART / len(group))
        # In reading order: rows of one bit setting stay together.
        for place, i in enumerate(sorted(group)):
            found[i] = step * (place - (len(group) - 1) / 2)
    return found


def _scale(set_scale: Callable[[str], None], axis: Axis, values: Sequence[float], wide: float = WIDE) -> None:
    """A logarithmic axis where values are positive and span more than `wide`."""
    if min(values) > 0 and max(values) > wide * min(values):
        set_scale("log")
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        # Powers of ten would be formulas, which no text of a chart is.
        axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axis.set_minor_formatter(NullFormatter())


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend below all panels, every name once."""
    found = dict[str, Any]()
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(str(label), handle)
    figure.legend(handles=list(found.values()), labels=list(found), loc="outside lower center", ncols=4)
