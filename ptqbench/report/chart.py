"""A chart: its numbers, how it is drawn, and the formats that it is written in."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import matplotlib
from matplotlib.figure import Figure

Value = str | float | int | None

INK, PALE, FAINT = "#1f2328", "#8a929b", "#d5dae0"
"""Text and axes; what stands in the background; what only guides the eye."""

GOOD, BAD, OPEN = "#1a7f37", "#b42318", "#57606a"
"""Better, worse, unclear. Words beside them say the same."""

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's palette, without the yellow that is too light on white and the black that is the ink's."""

MARKERS = "osD^vPX"
"""As many as do not divide the number of colours: 42 methods look different."""

WIDTH = 7.2
"""Inches: two columns of a paper."""

_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    # Names of methods are no formulas.
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": PALE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "savefig.transparent": True,
}


@dataclass(frozen=True)
class Chart:
    """A chart named `name` (a file's name without its ending). `columns` and `rows` are every number that it shows, in the
    unit of the record; `draw` makes the picture."""

    name: str
    title: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]
    draw: Callable[[], Figure]

    def csv(self) -> str:
        """The numbers, unrounded."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerows([self.columns, *self.rows])
        return out.getvalue()

    def svg(self) -> str:
        """The picture as an SVG file; the same text for the same numbers."""
        # The creator's line and its licence are addresses of other hosts.
        text = re.sub(r"(?s)\s*<metadata>.*?</metadata>", "", self._saved("svg").decode("utf-8"))
        return re.sub(r"(?s)<!DOCTYPE.*?>\s*", "", text, count=1)

    def pdf(self) -> bytes:
        """The picture as a PDF file with its letters as text."""
        return self._saved("pdf")

    def inline(self) -> str:
        """The picture as an element of a page, in the page's colours, with the caption for those who do not see it."""
        text = self.svg()
        # Groups are named alike in every chart ("axes_1"), and nothing refers to them.
        body = re.sub(r'<g id="[^"]*"', "<g", text[text.index(">", text.index("<svg")) + 1 :])
        box = re.search(r'viewBox="[^"]*"', text)
        for colour, name in _VARIABLES.items():
            body = re.sub(colour, f"var({name})", body, flags=re.IGNORECASE)
        told = (("title", self.title), ("desc", self.caption))
        words = "".join(f'<{tag} id="{self.name}-{tag}">{escape(text)}</{tag}>' for tag, text in told)
        head = f'<svg {box[0] if box else ""} role="img" aria-labelledby="{self.name}-title {self.name}-desc">'
        return f"{head}{words}{body.strip()}"

    def _saved(self, kind: str) -> bytes:
        out = io.BytesIO()
        none = {"Date": None, "Creator": None} if kind == "svg" else {"CreationDate": None, "Creator": None, "Producer": None}
        # Several charts stand in one page: the salt keeps the ids of one from being those of another.
        with matplotlib.rc_context({**_STYLE, "svg.hashsalt": self.name}):
            self.draw().savefig(out, format=kind, metadata=none)
        return out.getvalue()


_VARIABLES = {INK: "--ink", PALE: "--pale", FAINT: "--faint", GOOD: "--good", BAD: "--bad", OPEN: "--open"}
_VARIABLES |= {colour: f"--series-{i}" for i, colour in enumerate(SERIES)}


def file_name(*words: str) -> str:
    """A name for a file, and for an id in a page, whatever a metric is called: "fd-digits@data" -> "fd-digits-data"."""
    return "-".join(filter(None, (re.sub(r"[^A-Za-z0-9_]+", "-", word).strip("-") for word in words)))


def unique(charts: Sequence[Chart]) -> list[Chart]:
    """The charts, numbered where two have one name: metrics may differ in nothing but punctuation."""
    taken: dict[str, int] = {}
    found = []
    for chart in charts:
        taken[chart.name] = number = taken.get(chart.name, 0) + 1
        found.append(chart if number == 1 else replace(chart, name=f"{chart.name}-{number}"))
    return found
