"""What `ptqbench describe` says of a preset: its table, and the components that a method of it uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ptqbench.commands.describe_notes import notes_entry, print_notes
from ptqbench.commands.output import print_wrapped
from ptqbench.plugin.manager import PluginManager
from ptqbench.plugin.records import PresetRecord

if TYPE_CHECKING:
    from ptqbench.plugin.component import Bound
    from ptqbench.recipe.problems import Problem


def preset_entry(record: PresetRecord, manager: PluginManager) -> dict[str, Any]:
    """What only presets have: the table, the components behind it, and what is wrong with them here."""
    components, problems = _used(record, manager)
    return {
        "table": record.preset.table,
        "components": [
            {
                "key": key,
                "role": bound.role,
                "name": bound.name,
                "plugin": bound.plugin,
                "options": bound.options.model_dump(mode="json"),
                **notes_entry(bound.component),
            }
            for key, bound in components
        ],
        "problems": [{"place": problem.place, "message": problem.message, "hint": problem.hint} for problem in problems],
    }


def print_preset(record: PresetRecord, manager: PluginManager) -> None:
    """Print how a recipe names the preset, its table written out, and its components with their notes."""
    from ptqbench.recipe.toml_text import table_text

    path = ("methods", record.name)
    name = record.qualified if manager.clashes(record) else record.name
    click.echo("In a recipe, where any key may be added or replaced:")
    click.echo("")
    click.echo(table_text(path, {"method": name}))
    click.echo("")
    click.echo("The same written out:")
    click.echo("")
    click.echo(table_text(path, record.preset.table))
    click.echo("")
    click.echo("Components, with what each says of its own paper:")
    components, problems = _used(record, manager)
    for key, bound in components:
        print_wrapped(f"{key}: {bound.name} (plugin {bound.plugin}): {bound.component.summary}")
        print_notes(bound.component, "      ")
    for problem in problems:
        print_wrapped(f"cannot be used here: {problem.place}: {problem.message}")


def _used(record: PresetRecord, manager: PluginManager) -> tuple[list[tuple[str, Bound]], list[Problem]]:
    """The components by key, defaults included, and why the others could not be found."""
    from ptqbench.recipe.bind import Binder, validate
    from ptqbench.recipe.build import choose
    from ptqbench.recipe.extend import complete
    from ptqbench.recipe.problems import Problems
    from ptqbench.recipe.schema import MethodSection

    problems = Problems()
    table = complete(record.preset.table)
    validate(MethodSection, table, (), problems)
    choices = choose(table, (), Binder(manager, problems))
    return list(choices), list(problems)
