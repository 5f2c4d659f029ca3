"""`ptqbench describe NAME`: what it does, its options, where it comes from, how it stands to paper and code."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from ptqbench.commands.describe_preset import preset_entry, print_preset
from ptqbench.commands.options_table import OptionRow, option_rows
from ptqbench.commands.output import (
    json_option,
    notes_entry,
    plugin_option,
    print_json,
    print_notes,
    print_table,
    print_wrapped,
    role_option,
)
from ptqbench.errors import PluginError, UserError
from ptqbench.plugin.hookspecs import PRESETS, ROLES
from ptqbench.plugin.manager import PluginManager
from ptqbench.plugin.names import suggest, with_article
from ptqbench.plugin.records import PresetRecord, Record

_QUESTIONS = {role.name: role.question for role in (*ROLES, PRESETS)}
_LISTS = ("loss", "pass", "sampler-hook", "metric", "reporter")
_OUTSIDE_RECIPES = ("executor", "exporter", "engine")
"""Roles that commands ask for by name."""
_KEYS = {
    "weight-quantizer": "weights.quantizer",
    "activation-quantizer": "activations.quantizer",
    "range": "weights.range",
    "network-quantizer": "network",
    "loss": "losses",
    "pass": "passes",
    "sampler-hook": "hooks",
    "solver": "sampling.solver",
    "features": "evaluation.features",
    "metric": "evaluation.metrics",
    "reporter": "report.formats",
}


@click.command("describe")
@click.argument("name")
@role_option
@plugin_option
@json_option
def command(name: str, role: str | None, plugins: tuple[Path, ...], as_json: bool) -> None:
    """Describe the component or preset NAME (or "plugin/name"); one that plays several roles is shown in each."""
    manager = PluginManager(plugins)
    records = manager.matches(name, role)
    if not records:
        raise _unknown(name, role, manager)
    if as_json:
        print_json([_entry(record, manager) for record in records])
        return
    for i, record in enumerate(records):
        if i:
            click.echo("")
        _print(record, manager)


def _unknown(name: str, role: str | None, manager: PluginManager) -> UserError:
    if role is not None and manager.matches(name):
        roles = " and ".join(with_article(record.role) for record in manager.matches(name))
        return UserError(f'"{name}" is {roles}, not {with_article(role)}')
    hint = suggest(name, (record.name for record in manager.offers(role)), "known")
    if manager.left_out():
        return PluginError(f'nothing called "{name}" in the plugins that loaded', f"{hint}\n{manager.left_out()}")
    return UserError(f'there is nothing called "{name}"', hint)


def _entry(record: Record | PresetRecord, manager: PluginManager) -> dict[str, object]:
    common = {
        "role": record.role,
        "name": record.name,
        "summary": record.entry.summary,
        "plugin": record.plugin.name,
        "distribution": record.plugin.distribution,
        "version": record.plugin.version,
        "paper": record.entry.paper,
        **notes_entry(record.entry),
    }
    if isinstance(record, PresetRecord):
        return common | preset_entry(record, manager)
    options = [dataclasses.asdict(row) for row in option_rows(record.component.options)]
    return common | {"traits": sorted(record.component.traits), "options": options}


def _print(record: Record | PresetRecord, manager: PluginManager) -> None:
    click.echo(f"{record.name}, {with_article(record.role)} ({_QUESTIONS[record.role]})")
    print_wrapped(record.entry.summary)
    click.echo("")
    print_wrapped(f"plugin: {record.plugin.name}, from {record.plugin.origin}")
    for other in manager.clashes(record):
        print_wrapped(f"clash: also offered by plugin {other.plugin.name}; write {record.qualified}")
    if record.entry.paper:
        print_wrapped(f"paper: {record.entry.paper}")
    if isinstance(record, Record) and record.component.traits:
        print_wrapped(f"traits: {', '.join(sorted(record.component.traits))}")
    print_notes(record.entry)
    click.echo("")
    if isinstance(record, Record):
        _print_options(record)
    else:
        print_preset(record, manager)


def _print_options(record: Record) -> None:
    rows = option_rows(record.component.options)
    if not rows:
        click.echo("  It has no options.")
        return
    headings = ("option", "type", "default", "bounds", "help")
    print_table(headings, [dataclasses.astuple(row) for row in rows], keep=1)
    if record.role in _OUTSIDE_RECIPES:
        return
    click.echo("")
    click.echo("In a recipe:")
    click.echo(f"  {_example(record, rows)}")


def _example(record: Record, rows: list[OptionRow]) -> str:
    # An inline table must stay on one line in TOML, so a few options have to do.
    known = [row for row in rows if row.default not in ("none", "required")][:3]
    given = ", ".join(["", *(f"{row.name} = {row.default}" for row in known)])
    table = f'{{ use = "{record.name}"{given} }}'
    key = _KEYS.get(record.role, record.role)
    return f"{key} = [{table}]" if record.role in _LISTS else f"{key} = {table}"
