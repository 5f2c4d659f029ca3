"""Which layers of a cell cost most, as a chart, where `ptqbench sensitivity` was asked."""

from __future__ import annotations

from functools import partial

from matplotlib.figure import Figure

from ptqbench.report.chart import FAINT, INK, SERIES, WIDTH, Chart, file_name
from ptqbench.report.forest import ROW
from ptqbench.results.record import CellRecord, RunRecord
from ptqbench.results.sensitivity import sensitivity_table
from ptqbench.results.tables import Table


def layers(run: RunRecord) -> list[Chart]:
    """A chart for each cell of which it was asked. Its numbers are of all sites; the picture shows those of the table."""
    return [_chart(cell, sensitivity_table(cell)) for cell in run.cells if cell.sensitivity]


def _chart(cell: CellRecord, table: Table) -> Chart:
    data = [(name, x.value, x.low, x.high, x.n) for name, x in cell.sensitivity.items()]
    columns = ("site", "share", "low", "high", "trajectories")
    return Chart(file_name("layers", cell.id), table.title, " ".join(table.notes), columns, data, partial(_draw, table))


def _draw(table: Table) -> Figure:
    figure = Figure(figsize=(WIDTH, ROW * len(table.rows) + 0.7), layout="constrained")
    axes = figure.subplots()
    for place, (*_, share) in enumerate(table.rows):
        value, low, high = (100 * (x or 0.0) for x in (share.value, share.low, share.high))
        axes.axhline(place, color=FAINT, linewidth=0.4, zorder=0)
        axes.barh(place, value, height=0.6, color=SERIES[0], alpha=0.35, zorder=1)
        axes.plot([low, high], [place, place], color=INK, linewidth=1.2, zorder=2)
        axes.text(1.02, place, share.text, transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    axes.set_yticks(range(len(table.rows)), [row[0].text for row in table.rows])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(table.rows) - 0.4, -0.6)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("share of latent-error that goes with the site in full precision, %")
    return figure
