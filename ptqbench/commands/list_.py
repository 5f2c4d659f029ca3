"""`ptqbench list`: components and presets, and the plugins that they come from."""

from __future__ import annotations

from pathlib import Path

import click

from ptqbench.commands.output import json_option, plugin_option, print_json, print_table, role_option
from ptqbench.plugin.manager import BLOCK, PluginManager
from ptqbench.plugin.records import PresetRecord, Record


@click.command("list")
@role_option
@plugin_option
@click.option("--recipe", type=click.Path(path_type=Path), help="Load the single-file plugins of this recipe as well.")
@json_option
def command(role: str | None, plugins: tuple[Path, ...], recipe: Path | None, as_json: bool) -> None:
    """List components by role, and presets as the role "method", with the plugin and distribution that each comes from."""
    manager = PluginManager([*plugins, *_files_of(recipe)])
    records = manager.offers(role)
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

    return list(plugin_files(read_recipe(recipe), recipe.parent))


def _row(record: Record | PresetRecord, manager: PluginManager) -> tuple[str, ...]:
    others = manager.clashes(record)
    summary = record.entry.summary
    if others:
        names = ", ".join(other.plugin.name for other in others)
        summary = f"[clashes with {names}: write {record.qualified}] {summary}"
    return record.role, record.name, record.plugin.name, record.plugin.origin, summary


def _entry(record: Record | PresetRecord, manager: PluginManager) -> dict[str, object]:
    return {
        "role": record.role,
        "name": record.name,
        "plugin": record.plugin.name,
        "distribution": record.plugin.distribution,
        "version": record.plugin.version,
        "summary": record.entry.summary,
        "paper": record.entry.paper,
        "clashes_with": [other.plugin.name for other in manager.clashes(record)],
    }


def _explanation(role: str | None, manager: PluginManager) -> str:
    what = f"No components of the role {role}" if role else "No components"
    if manager.left_out():
        reason = f"{what}: every method, metric and model comes from a plugin, and these did not load."
        return f"{reason}\n{manager.left_out()}" + (f"\nUnset {BLOCK} to load blocked ones." if manager.blocked else "")
    if role and manager.offers():
        return f"{what}: no plugin brings one."
    return f'{what}: no plugin is installed. A plugin is a package with an entry point in the group "ptqbench".'
