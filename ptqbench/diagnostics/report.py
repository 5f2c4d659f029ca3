"""Writing a diagnosis down: data, pictures, page."""

from __future__ import annotations

import json
from pathlib import Path

from ptqbench.diagnostics.observer import GradientObserver
from ptqbench.diagnostics.page import render
from ptqbench.diagnostics.pictures.album import draw
from ptqbench.diagnostics.summary import Summary, as_data, units_as_data
from ptqbench.diagnostics.tables import tables


def write(summary: Summary, observer: GradientObserver, folder: Path) -> None:
    """diagnostics.json, units.json, a PNG for each topic, and diagnostics.md."""
    folder.mkdir(parents=True, exist_ok=True)
    data = json.dumps(as_data(summary), indent=1, allow_nan=False)
    (folder / "diagnostics.json").write_text(data + "\n", encoding="utf-8")
    units = json.dumps(units_as_data(summary), separators=(",", ":"), allow_nan=False)
    (folder / "units.json").write_text(units + "\n", encoding="utf-8")
    page = render(summary, tables(summary), draw(summary, folder), observer)
    (folder / "diagnostics.md").write_text(page, encoding="utf-8")
