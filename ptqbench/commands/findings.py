"""`ptqbench findings FILE`: which claims kept results bear out, as a generated page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptqbench.api.files import require_file
from ptqbench.commands.options import cache_option, device_option, workers_option
from ptqbench.errors import EXIT_OK, EXIT_REGRESSION, UserError

if TYPE_CHECKING:
    from ptqbench.findings.document import Document


@click.command("findings", short_help="Say which claims kept results bear out.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Write the page there instead of printing it.")
@click.option(
    "--check",
    is_flag=True,
    help="Only say whether the page at --out is the one that would be written, by results of the recipes and "
    "presets as they are (exit 1 if not).",
)
@click.option("--run", "names", multiple=True, metavar="NAME", help='Run this entry first, or "all"; may be repeated.')
@cache_option
@device_option
@workers_option
def command(
    file: Path, out: Path | None, check: bool, names: tuple[str, ...], cache: Path, device: str, workers: int | None
) -> int:
    """Judge the claims of FILE by the results that it keeps, and write the page."""
    from ptqbench.findings.document import read_document
    from ptqbench.findings.judge import answers
    from ptqbench.findings.kept import changes, load_records, silent
    from ptqbench.findings.page import render

    if check and out is None:
        raise UserError("--check needs --out", "name the page to check")
    if out is not None and not check:
        require_file(out, "--out")
    document = read_document(file)
    if names:
        _run(document, file, names, {"cache": cache, "device": device, "workers": workers})
    records = load_records(document, file.parent)
    again = f"ptqbench findings {file.as_posix()}" + (f" --out {out.as_posix()}" if out else "")
    changed = changes(document, records, file.parent)
    for name, what in changed.items():
        click.echo(f"{name}: {what}; make it anew with `ptqbench findings {file.as_posix()} --run {name}`", err=True)
    for name, what in silent(records).items():
        click.echo(f"{name}: {what}", err=True)
    text = render(document, answers(document, records), records, changed, file.parent, again)
    if out is None:
        click.echo(text, nl=False)
    elif not check:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
        click.echo(f"written: {out}", err=True)
    elif not out.is_file() or out.read_text(encoding="utf-8") != text:
        click.echo(f"{out} is not what `{again}` writes")
        return EXIT_REGRESSION
    return EXIT_REGRESSION if check and changed else EXIT_OK


def _run(document: Document, file: Path, names: tuple[str, ...], settings: dict[str, Any]) -> None:
    """Run entries of the document and keep their records."""
    from ptqbench.api.recipe import load_recipe
    from ptqbench.api.run import run
    from ptqbench.findings.kept import save_record
    from ptqbench.plugin.names import suggest

    known = {run.name: run for run in document.runs}
    for name in names:
        if name != "all" and name not in known:
            raise UserError(f"{file} keeps no run {name!r}", suggest(name, list(known), "runs"))
    for entry in document.runs if "all" in names else [known[name] for name in names]:
        click.echo(f"running {entry.name}", err=True)
        experiment = load_recipe(file.parent / entry.recipe, set=entry.overrides)
        found = run(experiment, progress=True, **settings)
        save_record(found.record, file.parent / document.results / f"{entry.name}.json")
