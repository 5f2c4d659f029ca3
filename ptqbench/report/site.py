"""A folder of pages: one for each run, and an index by recipe with what became of its rows from run to run."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ptqbench.report.page import render, templates
from ptqbench.results.history import Past, history_table
from ptqbench.results.record import RESULTS
from ptqbench.version import __version__

INDEX, PAGES = "index.html", "pages.txt"


def write_site(runs: Sequence[Past], folder: Path, left_out: Callable[[str], object]) -> list[Path]:
    """Write the pages of runs, the latest first, and the index; returns all files. Pages of runs that are gone are removed.
    `left_out` is as in `render`."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {_page_name(past): past for past in runs}
    before = _listed(folder)
    _list(folder, before | pages.keys())  # whatever comes between, the next call knows what it may remove
    written, recipes = [], dict[str, list[tuple[Past, str]]]()
    for name, past in pages.items():
        path = folder / name
        path.write_text(render(past.record, past.folder, left_out), encoding="utf-8")
        recipes.setdefault(past.record.name, []).append((past, name))
        written.append(path)
    listed = [
        (name, own[0][0].record.title, own, history_table([past for past, _ in own]))
        for name, own in sorted(recipes.items(), key=lambda item: item[1][0][0].record.created, reverse=True)
    ]
    index = folder / INDEX
    index.write_text(templates().get_template("index.html").render(recipes=listed, version=__version__), encoding="utf-8")
    for name in before - pages.keys():
        (folder / name).unlink(missing_ok=True)
    _list(folder, pages.keys())
    return [*written, index]


def _page_name(past: Past) -> str:
    """The same for a run whatever others there are: its time, the recipe, and a digest of its results."""
    created = past.record.created
    with contextlib.suppress(ValueError):
        created = f"{datetime.fromisoformat(created).astimezone(UTC):%Y-%m-%d-%H%M}"
    digest = hashlib.sha256((past.folder / RESULTS).read_bytes()).hexdigest()[:6]
    return f"{_plain(created)}-{_plain(past.record.name)}-{digest}.html"


def _listed(folder: Path) -> set[str]:
    """The pages that were written to the folder; nothing else is ever removed, nor anything outside of it."""
    with contextlib.suppress(FileNotFoundError):
        names = (folder / PAGES).read_text(encoding="utf-8").splitlines()
        return {name for name in names if name == _plain(name.removesuffix(".html")) + ".html"}
    return set()


def _list(folder: Path, names: Iterable[str]) -> None:
    (folder / PAGES).write_text("".join(f"{name}\n" for name in sorted(names)), encoding="utf-8")


def _plain(name: str) -> str:
    return "".join(char if char.isalnum() or char in "-_" else "-" for char in name)
