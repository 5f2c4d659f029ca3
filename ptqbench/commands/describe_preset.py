"""What `ptqbench describe` says of a preset: its whole table, and the components that a method of it uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ptqbench.commands.output import notes_entry, print_notes, print_wrapped
from ptqbench.errors import UserError
from ptqbench.plugin.component import Preset
from ptqbench.plugin.manager import PluginManager
from ptqbench.plugin.records import PresetRecord

if TYPE_CHECKING:
    from ptqbench.recipe.build import Choices
    from ptqbench.recipe.problems import Problem


def preset_entry(record: PresetRecord, manager: PluginManager) -> dict[str, Any]:
    """What only presets have: the table, the components behind it, and what is wrong with them here."""
    preset, choices, problems = _resolved(record, manager)
    return {
        "extends": record.preset.extends or None,
        "table": _table(preset, choices),
        "components": [
            {
                "key": key,
                "role": bound.role,
                "name": bound.name,
                "plugin": bound.plugin,
                "options": bound.options.model_dump(mode="json"),
                **notes_entry(bound.component),
            }
            for key, bound in choices
        ],
        "problems": [{"place": problem.place, "message": problem.message, "hint": problem.hint} for problem in problems],
    }


def print_preset(record: PresetRecord, manager: PluginManager) -> None:
    """Print how a recipe names the preset, its whole table, and its components with their notes."""
    from ptqbench.recipe.toml_text import table_text

    path = ("methods", record.name)
    name = record.qualified if manager.clashes(record) else record.name
    preset, choices, problems = _resolved(record, manager)
    click.echo("In a recipe, where any key may be added or replaced:")
    click.echo("")
    click.echo(table_text(path, {"method": name}))
    click.echo("")
    base = record.preset.extends
    click.echo(f"The same written out, with what it has of {base}:" if base else "The same written out:")
    click.echo("")
    click.echo(table_text(path, _table(preset, choices)))
    click.echo("")
    click.echo("Components, with what each says of its own paper:")
    for key, bound in choices:
        print_wrapped(f"{key}: {bound.name} (plugin {bound.plugin}): {bound.component.summary}")
        print_notes(bound.component, "      ")
    for problem in problems:
        print_wrapped(f"cannot be used here: {problem.place}: {problem.message}")


def _resolved(record: PresetRecord, manager: PluginManager) -> tuple[Preset, Choices, Sequence[Problem]]:
    """The preset with what it inherits, its components by key, defaults included, and why others could not be found."""
    from ptqbench.recipe.bind import Binder, validate
    from ptqbench.recipe.build import choose
    from ptqbench.recipe.extend import complete
    from ptqbench.recipe.presets import whole
    from ptqbench.recipe.problems import Problems
    from ptqbench.recipe.schema import MethodSection

    problems = Problems()
    preset = record.preset
    try:
        preset = whole(manager, record)
    except UserError as error:
        problems.add_error(("extends",), error)
    table = complete(preset.table)
    validate(MethodSection, table, (), problems)
    return preset, choose(table, (), Binder(manager, problems)), list(problems)


def _table(preset: Preset, choices: Choices) -> dict[str, Any]:
    """The preset's table with all components that were found, and all of their options that have a value."""
    from ptqbench.recipe.extend import complete
    from ptqbench.recipe.keypath import put

    def written(bound: Any) -> Any:
        options = bound.options.model_dump(mode="json", exclude_none=True)
        return {"use": bound.name, **options} if options else bound.name

    table = complete(preset.table)
    for path, bound in choices.single.items():
        if bound is not None:
            put(table, path, written(bound))
    for key, several in choices.lists.items():
        if several and len(several) == len(table[key]):
            table[key] = [written(bound) for bound in several]
    return table
