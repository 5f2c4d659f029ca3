"""What weighters learned along the trajectory, where the record has it: a chart for each phase, a panel for each row."""

from __future__ import annotations

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ptqbench.report.chart import PALE, SERIES, WIDTH, Chart, Value, file_name
from ptqbench.results.record import RunRecord
from ptqbench.results.rows import rows_of

Array = NDArray[np.float64]

Found = dict[tuple[str, str], Array]
"""Under a method with its variant, and its bits: mean weights (U, G) of units and seeds in G ranges of sampling steps."""

ACROSS = 3
"""Panels side by side."""

CAPTION = (
    "Learned weights of the training samples in each unit as multiples of their mean, in phase {phase}: mean over units and "
    "calibration seeds, and the band that holds the middle half of them. Noise is at the left, the image at the right; equal "
    "weights are the line at 1."
)


def weights(run: RunRecord) -> list[Chart]:
    """A chart for each phase whose weighters reported weights of their samples."""
    return [_chart(phase, found, run.protocol.get("steps")) for phase, found in _by_phase(run).items()]


def _by_phase(run: RunRecord) -> dict[str, Found]:
    """Rows with equal weights are one: rounding that is learned before activations are quantized serves several bits."""
    phases: dict[str, Found] = {}
    for row in rows_of(run):
        own: dict[str, list[list[float | None]]] = {}
        for fit in (fit for cell in row.cells for fit in cell.fits):
            if fit.weighter is not None and fit.weighter.by_step:
                own.setdefault(fit.phase, []).append(fit.weighter.by_step)
        for phase, rows in own.items():
            values, found = np.asarray(rows, dtype=np.float64), phases.setdefault(phase, {})
            name = f"{row.method} {row.variant}".rstrip()
            same = [key for key, known in found.items() if key[0] == name and np.array_equal(known, values, equal_nan=True)]
            bits = "+".join([*(key[1] for key in same), row.bits])
            phases[phase] = {key: known for key, known in found.items() if key not in same} | {(name, bits): values}
    return phases


def _chart(phase: str, found: Found, steps: object) -> Chart:
    panels: dict[str, tuple[Array, Array]] = {}
    data: list[tuple[Value, ...]] = []
    for (name, bits), values in found.items():
        ranges = values.shape[1]
        # The middle of each range, in sampling steps.
        x = (np.arange(ranges) + 0.5) * (steps if isinstance(steps, int) else ranges) / ranges - 0.5
        known = np.isfinite(values).any(axis=0)
        shown = np.stack([np.nanmean(values[:, known], axis=0), *np.nanpercentile(values[:, known], [25, 75], axis=0)])
        panels[f"{name} {bits}"] = x[known], shown
        data += [(name, bits, *map(float, point), len(values)) for point in np.column_stack([x[known], *shown])]
    columns = ("method", "bits", "step", "mean", "quarter", "three_quarters", "units")
    title = f"Learned weights by sampling step, phase {phase}"
    return Chart(file_name("weights", phase), title, CAPTION.format(phase=phase), columns, data, partial(_draw, panels))


def _draw(panels: dict[str, tuple[Array, Array]]) -> Figure:
    across = min(ACROSS, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(WIDTH, 2.2 * down + 0.3), layout="constrained")
    places: list[Axes] = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel().tolist()
    for axes, (title, (x, (mean, low, high))) in zip(places, panels.items(), strict=False):
        axes.axhline(1.0, color=PALE, linewidth=0.8)
        axes.fill_between(x, low, high, color=SERIES[0], alpha=0.25, linewidth=0)
        axes.plot(x, mean, color=SERIES[0], marker="o", markersize=3, linewidth=1.2)
        axes.set_title(title)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_tick_params(labelbottom=True)
        axes.set_xlabel("sampling step")
    places[0].set_ylabel("weight, mean 1")
    for unused in places[len(panels) :]:
        unused.remove()
    return figure
