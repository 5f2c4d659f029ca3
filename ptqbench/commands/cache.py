"""`ptqbench cache`: what the cache holds, by stage and by recipe, and making room in it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from ptqbench.api.settings import default_cache
from ptqbench.commands.output import json_option, print_json, print_table
from ptqbench.plugin.names import suggest
from ptqbench.results.formatting import byte_size
from ptqbench.stage.upkeep import Kept, chosen, kept, prune

UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def _bytes(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    """The number of bytes of "20G", "500M", "1.5 GiB"."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", value.strip().lower())
    if found is None:
        raise click.BadParameter(f'{value!r} is no size; write "20G" or "500M"')
    return int(float(found[1]) * UNITS[found[2]])


@click.command("cache")
@click.option("--cache", "root", type=click.Path(path_type=Path), help="Its folder, as for `ptqbench run`.")
@click.option("--prune", "wanted", is_flag=True, help="Delete what the following options choose; they narrow each other.")
@click.option("--days", type=click.FloatRange(min=0), help="Results that nothing has used for so many days.")
@click.option("--recipe", metavar="NAME", help="Results that no other recipe has used.")
@click.option(
    "--room", metavar="SIZE", callback=_bytes, help="The longest unused, until the rest fits into this size, for example 20G."
)
@json_option
def command(root: Path | None, wanted: bool, days: float | None, recipe: str | None, room: int | None, as_json: bool) -> None:
    """Say what finished stages take, by stage and by recipe.

    Results of a process that still runs are never deleted: nothing that was used since the oldest one started.
    """
    folder = root or default_cache()
    narrowed = {"--days": days, "--recipe": recipe, "--room": room}
    given = [name for name, value in narrowed.items() if value is not None]
    if wanted != bool(given):
        raise click.UsageError(f"--prune needs one of {', '.join(narrowed)}" if wanted else f"{given[0]} goes with --prune")
    results = kept(folder)
    if recipe is not None and not chosen(results, recipe=recipe):
        there = suggest(recipe, (name for one in results for name in one.recipes), "recipes")
        click.echo(f'nothing is of the recipe "{recipe}" alone; {there}', err=True)
    if wanted:
        _prune(folder, results, chosen(results, recipe=recipe, days=days, room=room), as_json)
    elif as_json:
        print_json([_entry(one) for one in results])
    else:
        _tell(folder, results)


def _prune(folder: Path, results: list[Kept], going: list[Kept], as_json: bool) -> None:
    gone = prune(folder, going)
    if as_json:
        parts = {
            "deleted": gone,
            "in_use": [one for one in going if one not in gone],
            "stay": [one for one in results if one not in gone],
        }
        print_json({name: [_entry(one) for one in part] for name, part in parts.items()})
        return
    busy = f"; {len(going) - len(gone)} are in use and stay" if len(gone) < len(going) else ""
    rest = _size(results) - _size(gone)
    click.echo(f"deleted {len(gone)} of {len(results)} results, {byte_size(_size(gone))}; {byte_size(rest)} stay{busy}")


def _tell(folder: Path, results: list[Kept]) -> None:
    click.echo(f"{folder}: {len(results)} results, {byte_size(_size(results))}")
    _table("stage", {one.stage: [] for one in results}, results, lambda one: {one.stage})
    _table("recipe", {name: [] for one in results for name in one.recipes}, results, lambda one: one.recipes)


def _table(heading: str, parts: dict[str, list[Kept]], results: list[Kept], whose: Callable[[Kept], Iterable[str]]) -> None:
    """A row for each part; results of several parts count in each, and "alone" are those of no other."""
    for one in results:
        for name in whose(one):
            parts[name].append(one)
    rows = []
    for name, own in sorted(parts.items()):
        alone = byte_size(_size(one for one in own if one.recipes == {name})) if heading == "recipe" else ""
        rows.append((name, str(len(own)), byte_size(_size(own)), alone, _ago(max(one.used for one in own))))
    if rows:
        click.echo("")
        print_table((heading, "results", "size", "alone", "last used"), rows, keep=1, right=("results", "size", "alone"))


def _ago(when: float) -> str:
    days = (time.time() - when) / 86400
    return "today" if days < 1 else "yesterday" if days < 2 else f"{days:.0f} days ago"


def _size(results: Iterable[Kept]) -> int:
    return sum(one.size for one in results)


def _entry(one: Kept) -> dict[str, object]:
    return {"folder": str(one.folder), "stage": one.stage, "bytes": one.size, "used": one.used, "recipes": sorted(one.recipes)}
