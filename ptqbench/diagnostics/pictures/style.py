"""What all pictures share: size, colours that colour-blind readers tell apart, panels, and how a picture is saved."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ptqbench.diagnostics.statistics import Spread

DPI = 130

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, without the yellow that is too light on white."""

DASHES: tuple[Any, ...] = ("-", "--", ":", "-.")
MARKERS = "osD^vPX"

PANEL = (4.6, 3.4)
"""Width and height of a panel in inches."""

MOST_COLUMNS = 3

LETTERS = 12
"""Letters of a title on an inch."""

BESIDE = 0.1
"""Room that the lines of a panel take up beside each other, as a share of the gap between two places."""


@dataclass(frozen=True)
class Picture:
    """A saved picture: its file and title, and what it shows."""

    file: str
    title: str
    caption: str


def panels(
    count: int, *, columns: int = MOST_COLUMNS, height: float = PANEL[1], sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels, at most `columns` in a row, each `height` inches high."""
    wide = min(columns, count)
    high = -(-count // wide)
    figure = Figure(figsize=(max(PANEL[0] * wide, 6.4), height * high + 0.5), layout="constrained")
    axes = figure.subplots(high, wide, squeeze=False, sharey=sharey).ravel().tolist()
    for unused in axes[count:]:
        unused.remove()
    return figure, axes[:count]


def line_style(index: int) -> dict[str, Any]:
    """Colour, dashes and marker of the line at this position."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": DASHES[index // len(COLOURS) % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 4,
        "linewidth": 1.5,
    }


def spread_lines(axes: Axes, x: Sequence[float], lines: Mapping[int, tuple[str, Sequence[Spread]]]) -> None:
    """Lines of means, by position of their style; bars are the 95 % intervals over seeds, where there are two or more.

    The lines stand a little beside each other, so that bars do not hide one another.
    """
    gap = float(np.diff(x).min()) if len(x) > 1 else 1.0
    for place, (index, (label, spreads)) in enumerate(lines.items()):
        shift = BESIDE * gap * (place / (len(lines) - 1) - 0.5) if len(lines) > 1 else 0.0
        mean = np.asarray([s.mean for s in spreads])
        half = np.nan_to_num(np.asarray([s.high for s in spreads]) - mean)
        bars = half if half.any() else None
        axes.errorbar(np.asarray(x) + shift, mean, yerr=bars, label=label, capsize=2, elinewidth=0.8, **line_style(index))


def log_if_wide(axes: Axes) -> None:
    """A logarithmic y axis where the values span more than a factor of ten."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.get_lines()] or [np.zeros(0)])
    values = values[np.isfinite(values) & (values > 0)]
    if values.size and values.max() > 10 * values.min():
        axes.set_yscale("log")
    elif values.size:
        axes.set_ylim(bottom=0)


def finish(axes: Axes, title: str, x: str, y: str) -> None:
    """Labels and a light grid."""
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def legend_below(figure: Figure, axes: Axes) -> None:
    """One legend for all panels, below them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), MOST_COLUMNS), fontsize=9, frameon=False)


def save(figure: Figure, title: str, folder: Path, file: str, caption: str) -> Picture:
    """Write `folder`/`file` under a title."""
    # A line does not end inside "n = 22 units".
    title_words = title.replace("n = ", "n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")
    figure.suptitle(textwrap.fill(title_words, int(figure.get_figwidth() * LETTERS)), fontsize=11)
    figure.savefig(folder / file, dpi=DPI)
    return Picture(file, title, caption)


def phase_file(topic: str, phase: str) -> str:
    """The file of a topic in one phase."""
    return f"{topic}-{phase}.png".replace(" ", "-")


def count_words(units: int, seeds: int) -> str:
    """ "n = 23 units, 3 seeds"."""
    return f"n = {units} unit{'s' * (units != 1)}, {seeds} seed{'s' * (seeds != 1)}"
