"""`ptqbench describe COMPONENT`: what it does, its options, where it comes from, where it differs from its paper."""

from __future__ import annotations

import dataclasses
import textwrap
from pathlib import Path

import click

from ptqbench.commands.options_table import OptionRow, option_rows
from ptqbench.commands.output import console, json_option, manager_with, plugin_option, print_json, print_table
from ptqbench.errors import PluginError, UserError
from ptqbench.hookspecs import ROLES
from ptqbench.names import suggest, with_article
from ptqbench.plugins import PluginManager, Record

_QUESTIONS = {role.name: role.question for role in ROLES}
_KEYS = {
    "weight-quantizer": "weights.quantizer",
    "activation-quantizer": "activations.quantizer",
    "range": "weights.range",
    "pass": "passes",
    "features": "evaluation.features",
    "metric": "evaluation.metrics",
    "reporter": "report.formats",
}


@click.command("describe")
@click.argument("component")
@click.option("--role", type=click.Choice([role.name for role in ROLES]), help="Only this role.")
@plugin_option
@json_option
def command(component: str, role: str | None, plugins: tuple[Path, ...], as_json: bool) -> None:
    """Describe COMPONENT (a name, or "plugin/name"); one that plays several roles is shown in each."""
    manager = manager_with(plugins)
    records = manager.matches(component, role)
    if not records:
        raise _unknown(component, role, manager)
    if as_json:
        print_json([_entry(record) for record in records])
        return
    for i, record in enumerate(records):
        if i:
            click.echo("")
        _print(record, manager)


def _unknown(name: str, role: str | None, manager: PluginManager) -> UserError:
    if role is not None and manager.matches(name):
        roles = " and ".join(with_article(record.role) for record in manager.matches(name))
        return UserError(f'"{name}" is {roles}, not {with_article(role)}')
    hint = suggest(name, (record.name for record in manager.components(role)), "known")
    if manager.left_out():
        return PluginError(f'no component "{name}" in the plugins that loaded', f"{hint}\n{manager.left_out()}")
    return UserError(f'there is no component "{name}"', hint)


def _entry(record: Record) -> dict[str, object]:
    component = record.component
    return {
        "role": record.role,
        "name": record.name,
        "summary": component.summary,
        "plugin": record.plugin.name,
        "distribution": record.plugin.distribution,
        "version": record.plugin.version,
        "paper": component.paper,
        "deviations": list(component.deviations),
        "traits": sorted(component.traits),
        "options": [dataclasses.asdict(row) for row in option_rows(component.options)],
    }


def _print(record: Record, manager: PluginManager) -> None:
    component = record.component
    click.echo(f"{record.name}, {with_article(record.role)} ({_QUESTIONS[record.role]})")
    _wrapped(component.summary, "  ")
    click.echo("")
    _wrapped(f"plugin: {record.plugin.name}, from {record.plugin.origin}", "  ")
    for other in manager.clashes(record):
        _wrapped(f"clash: also offered by plugin {other.plugin.name}; write {record.qualified}", "  ")
    if component.paper:
        _wrapped(f"paper: {component.paper}", "  ")
    if component.traits:
        _wrapped(f"traits: {', '.join(sorted(component.traits))}", "  ")
    for deviation in component.deviations:
        _wrapped(f"differs from the paper: {deviation}", "  ")
    rows = option_rows(component.options)
    click.echo("")
    if not rows:
        click.echo("  It has no options.")
        return
    headings = ("option", "type", "default", "bounds", "help")
    print_table(headings, [dataclasses.astuple(row) for row in rows], keep=1)
    click.echo("")
    click.echo("In a recipe:")
    click.echo(f"  {_example(record, rows)}")


def _example(record: Record, rows: list[OptionRow]) -> str:
    # An inline table must stay on one line in TOML, so a few options have to do.
    known = [row for row in rows if row.default not in ("none", "required")][:3]
    given = ", ".join(["", *(f"{row.name} = {row.default}" for row in known)])
    table = f'{{ use = "{record.name}"{given} }}'
    key = _KEYS.get(record.role, record.role)
    return f"{key} = [{table}]" if record.role in ("pass", "metric", "reporter") else f"{key} = {table}"


def _wrapped(text: str, indent: str) -> None:
    width = max(console().width, 20)
    inner = indent + "  "
    click.echo(textwrap.fill(text, width, initial_indent=indent, subsequent_indent=inner, break_on_hyphens=False))
