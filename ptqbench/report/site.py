"""A folder of pages: one for each run, and an index by recipe with what became of its rows from run to run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ptqbench.report.page import render, templates
from ptqbench.results.history import Past, history_table
from ptqbench.version import __version__

INDEX = "index.html"


def write_site(runs: Sequence[Past], folder: Path) -> list[Path]:
    """Write the pages of runs, the latest first, and the index; returns all files."""
    folder.mkdir(parents=True, exist_ok=True)
    written, recipes = [], dict[str, list[tuple[Past, str]]]()
    for number, past in enumerate(reversed(runs), start=1):
        path = folder / f"{number:04d}-{_plain(past.record.name)}.html"
        path.write_text(render(past.record, past.folder), encoding="utf-8")
        recipes.setdefault(past.record.name, []).insert(0, (past, path.name))
        written.append(path)
    listed = [
        (name, own[0][0].record.title, own, history_table([past for past, _ in own]))
        for name, own in sorted(recipes.items(), key=lambda item: item[1][0][0].record.created, reverse=True)
    ]
    index = folder / INDEX
    index.write_text(templates().get_template("index.html").render(recipes=listed, version=__version__), encoding="utf-8")
    return [*written, index]


def _plain(name: str) -> str:
    return "".join(char if char.isalnum() or char in "-_" else "-" for char in name)
