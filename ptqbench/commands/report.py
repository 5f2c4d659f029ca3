"""`ptqbench report RUN`: a finished run as one HTML page, or its figures as files for a paper."""

from __future__ import annotations

from pathlib import Path

import click

from ptqbench.api.files import require_file, require_folder
from ptqbench.boundary.build import build
from ptqbench.plugin.manager import PluginManager
from ptqbench.results.compare import compared
from ptqbench.results.history import past_runs
from ptqbench.results.record import RunRecord
from ptqbench.roles.reporter import Reporter

TABLES = "tables.tex"


@click.command("report", short_help="Write a run as one HTML page, or its figures.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--to", type=click.Path(path_type=Path), metavar="FILE", help="The page; without it, beside the results.")
@click.option(
    "--figures",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help=f"Write each figure there as SVG and PDF, its data as CSV, and {TABLES}; then no page unless --to names one.",
)
@click.option(
    "--site",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write a page there for every run below RUN, and an index with their history.",
)
def command(run: Path, to: Path | None, figures: Path | None, site: Path | None) -> None:
    """Write RUN, a folder that `ptqbench run` wrote (or its results.json), as a page that needs no network and no script."""
    if site is not None:
        if to is not None or figures is not None:
            raise click.UsageError("--site writes pages of its own: leave --to and --figures out")
        _site(run, site)
        return
    record = RunRecord.load(run)
    shown, beside = compared(record), run if run.is_dir() else run.parent
    page = to or (None if figures else run / "report.html" if run.is_dir() else run.with_suffix(".html"))
    if page is not None:
        require_file(page, "--to")
    if figures is not None:
        require_folder(figures, "--figures")
        _figures(shown, figures, beside)
    if page is not None:
        _page(shown, page, beside)


def _left_out(reason: str) -> None:
    click.echo(f"left out: {reason}", err=True)


def _site(runs: Path, folder: Path) -> None:
    from ptqbench.report.site import write_site

    require_folder(folder, "--site")
    found = past_runs(runs, _left_out)
    written = write_site(found, folder, _left_out)
    click.echo(f"written: {written[-1]} and {len(written) - 1} pages", err=True)


def _figures(record: RunRecord, folder: Path, beside: Path) -> None:
    # Pictures and templates take a second to import: help and listings do without.
    from ptqbench.report.figures import write_figures

    written = write_figures(record, folder, beside, _left_out)
    latex: Reporter = build(PluginManager().default("reporter", "latex"))
    (folder / TABLES).write_text(latex.render(record), encoding="utf-8")
    click.echo(f"written: {len(written) + 1} files in {folder}", err=True)


def _page(record: RunRecord, path: Path, beside: Path) -> None:
    from ptqbench.report.page import render

    text = render(record, beside, _left_out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    click.echo(f"written: {path} ({len(text.encode()) / 2**20:.2f} MiB)", err=True)
