"""`ptqbench check RUN`: a run against the baseline that is kept in the repository."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click

from ptqbench.api.check import baseline_path, check, how_to_begin
from ptqbench.api.files import require_file
from ptqbench.api.result import Run
from ptqbench.commands.options import cache_option
from ptqbench.commands.output import colored, table_width
from ptqbench.errors import EXIT_OK, UserError
from ptqbench.gate import baseline_file, reports
from ptqbench.gate.compare import ALL_TIERS
from ptqbench.gate.snapshot import Change, snapshot
from ptqbench.gate.update import FIRST, first_baseline, replaced, tightened
from ptqbench.gate.verdicts import Report, Tier
from ptqbench.results.record import RunRecord

SUMMARY = "GITHUB_STEP_SUMMARY"


def _tiers(_: click.Context, __: click.Parameter, value: str) -> frozenset[Tier]:
    words = [word.strip() for word in value.split(",") if word.strip()]
    unknown = [word for word in words if word not in list(Tier)]
    if unknown or not words:
        raise click.BadParameter(f"{', '.join(unknown) or 'nothing'}: allowed are {', '.join(Tier)}")
    return frozenset(map(Tier, words))


@click.command("check", short_help="Check a run against its baseline.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--baseline", type=click.Path(path_type=Path), help="The baseline.  [default: baselines/<recipe>.toml]")
@click.option("--tier", "wanted", callback=_tiers, default=",".join(Tier), show_default=True, help="What to compare.")
@click.option("--format", "form", type=click.Choice([*reports.FORMATS]), default="terminal", show_default=True)
@click.option("--out", multiple=True, type=click.Path(path_type=Path), help="Write .txt, .md, .json or .xml; may be repeated.")
@click.option("--strict", is_flag=True, help="Fail on sudden gains and on what the baseline does not know, too.")
@click.option("--strict-cost", is_flag=True, help="Fail on seconds and memory where the environment is the baseline's.")
@click.option("--strict-state", is_flag=True, help="Fail on changed codes and grids where the environment is the baseline's.")
@click.option("--confirm", "fresh", type=click.IntRange(1), metavar="N", help="Run what seems worse again with N new seeds.")
@click.option("--update", is_flag=True, help="Write a first baseline; or add what is new and take what is better.")
@click.option("--replace", "anew", is_flag=True, help="Make this run the baseline, whatever it says.")
@click.option("--reason", default="", help="Why; is stored with the date.  [needed with --replace]")
@cache_option
def command(
    run: Path,
    baseline: Path | None,
    wanted: frozenset[Tier],
    form: str,
    out: tuple[Path, ...],
    strict: bool,
    strict_cost: bool,
    strict_state: bool,
    fresh: int | None,
    update: bool,
    anew: bool,
    reason: str,
    cache: Path,
) -> int:
    """Compare RUN, a folder that `ptqbench run` wrote, with a baseline.

    Exit code 0: no regression. 1: something is worse, changed or missing. 4: something cannot be compared, or there is
    no baseline. 5: a cell failed.
    """
    _check_options(update, anew, reason, wanted, out)
    loaded = Run.load(run)
    path = baseline or baseline_path(loaded.record)
    if anew:
        return _replace(loaded.record, path, reason)
    if update and not path.exists():
        return _first(loaded.record, path)
    strictness = {"strict": strict, "strict_cost": strict_cost, "strict_state": strict_state}
    found = check(loaded, path, tiers=wanted, confirm=fresh, cache=cache, progress=True, **strictness)
    _print(found, form, out)
    if not path.exists():
        click.echo(f"error: there is no baseline at {path}\n  {how_to_begin(loaded, path)}", err=True)
    if update:
        _tighten(loaded.record, found, path)
    return found.exit_code


def _check_options(update: bool, anew: bool, reason: str, wanted: frozenset[Tier], out: tuple[Path, ...]) -> None:
    if update and anew:
        raise click.UsageError("--update never accepts a worse value and --replace does: choose one of them")
    if anew and not reason.strip():
        raise click.UsageError('--replace needs --reason "why the numbers may change"')
    if reason and not anew:
        raise click.UsageError("--reason goes with --replace")
    if update and wanted != ALL_TIERS:
        raise click.UsageError("--update looks at all tiers: leave --tier out")
    for path in out:
        reports.format_of(path)
        require_file(path, "--out")


def _first(record: RunRecord, path: Path) -> int:
    now, only = snapshot(record), _only(record)
    part = f"{FIRST}, of a part of the recipe: {', '.join(only)}" if only else FIRST
    baseline_file.save(path, first_baseline(now, _today(), part))
    rest = "\n  the recipe's other cells are new to a check, which passes, until --update adds them" if only else ""
    click.echo(f"{path}: {part}, {len(now.cells)} cells{rest}", err=True)
    return EXIT_OK


def _replace(record: RunRecord, path: Path, reason: str) -> int:
    if _only(record):
        raise UserError("this run has only some cells of its recipe", "run the recipe without --only")
    old = baseline_file.load(path) if path.exists() else None
    new = replaced(snapshot(record), old, _today(), reason)
    baseline_file.save(path, new.baseline)
    click.echo("\n".join([f"{path}: replaced", *(f"  {line}" for line in new.changes)]), err=True)
    return EXIT_OK


def _only(record: RunRecord) -> list[str]:
    """The cells that a run of a part of its recipe was asked for."""
    return list(record.recipe.get("sweep", {}).get("only", ()))


def _tighten(record: RunRecord, found: Report, path: Path) -> None:
    new = tightened(snapshot(record), baseline_file.load(path), found)
    if new.changes:
        reason = f"--update: {'; '.join(new.changes)}"
        history = (*new.baseline.history, Change(_today(), reason))
        baseline_file.save(path, replace(new.baseline, history=history))
    click.echo("\n".join([f"{path}: {len(new.changes)} updates", *(f"  {x}" for x in new.changes)]), err=True)


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _print(report: Report, form: str, out: tuple[Path, ...]) -> None:
    for path in out:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(reports.render(report, reports.format_of(path)), encoding="utf-8")
    if summary := os.environ.get(SUMMARY):
        with Path(summary).open("a", encoding="utf-8") as stream:
            stream.write(reports.markdown(report))
    if form == "terminal":
        click.echo(reports.terminal(report, table_width(), color=colored()), nl=False)
    else:
        click.echo(reports.render(report, form), nl=False)
