"""`ptqbench list`: components, and the plugins that they come from."""

from __future__ import annotations

from pathlib import Path

import click

from ptqbench.commands.output import json_option, manager_with, plugin_option, print_json, print_table
from ptqbench.hookspecs import ROLES
from ptqbench.plugins import BLOCK, PluginManager, Record


@click.command("list")
@click.option("--role", type=click.Choice([role.name for role in ROLES]), help="Only this role.")
@plugin_option
@click.option("--recipe", type=click.Path(path_type=Path), help="Load the single-file plugins of this recipe as well.")
@json_option
def command(role: str | None, plugins: tuple[Path, ...], recipe: Path | None, as_json: bool) -> None:
    """List components by role, with the plugin and the distribution that each comes from."""
    manager = manager_with([*plugins, *_files_of(recipe)])
    records = manager.components(role)
    if as_json:
        print_json(
            {
                "components": [_entry(record, manager) for record in records],
                "failed": [
                    {"plugin": f.plugin, "from": f.origin, "reason": f.reason, "where": f.where} for f in manager.failed
                ],
                "blocked": [info.name for info in manager.blocked],
            }
        )
    elif records:
        headings = ("role", "component", "plugin", "from", "summary")
        print_table(headings, [_row(record, manager) for record in records])
    else:
        click.echo(_explanation(role, manager))


def _files_of(recipe: Path | None) -> list[Path]:
    if recipe is None:
        return []
    from ptqbench.recipe.load import plugin_files
    from ptqbench.recipe.read import read_recipe

    return list(plugin_files(read_recipe(recipe), recipe))


def _row(record: Record, manager: PluginManager) -> tuple[str, ...]:
    others = manager.clashes(record)
    summary = record.component.summary
    if others:
        names = ", ".join(other.plugin.name for other in others)
        summary = f"[clashes with {names}: write {record.qualified}] {summary}"
    return record.role, record.name, record.plugin.name, record.plugin.origin, summary


def _entry(record: Record, manager: PluginManager) -> dict[str, object]:
    return {
        "role": record.role,
        "name": record.name,
        "plugin": record.plugin.name,
        "distribution": record.plugin.distribution,
        "version": record.plugin.version,
        "summary": record.component.summary,
        "paper": record.component.paper,
        "clashes_with": [other.plugin.name for other in manager.clashes(record)],
    }


def _explanation(role: str | None, manager: PluginManager) -> str:
    what = f"No components of the role {role}" if role else "No components"
    if manager.left_out():
        reason = f"{what}: every method, metric and model comes from a plugin, and these did not load."
        return f"{reason}\n{manager.left_out()}" + (f"\nUnset {BLOCK} to load blocked ones." if manager.blocked else "")
    if role and manager.components():
        return f"{what}: no plugin brings one."
    return f'{what}: no plugin is installed. A plugin is a package with an entry point in the group "ptqbench".'
