"""What a preset stands for: the tables of those that it extends under its own."""

from __future__ import annotations

from dataclasses import replace

from ptqbench.errors import PluginError, UserError
from ptqbench.plugin.component import Preset
from ptqbench.plugin.manager import PluginManager
from ptqbench.plugin.records import PresetRecord
from ptqbench.recipe.extend import merge


def whole_preset(manager: PluginManager, name: str) -> Preset:
    """The preset that a recipe means by `name`, with everything that it inherits in its table.

    Raises as `PluginManager.find_preset` does, and `PluginError` if what it extends is not there or goes round in a circle.
    """
    return whole(manager, manager.find_preset(name))


def whole(manager: PluginManager, record: PresetRecord) -> Preset:
    """The same of a preset that is already found."""
    line = [record]
    while base := line[-1].preset.extends:
        heir = f'the preset "{line[-1].name}" of plugin "{line[-1].plugin.name}" extends "{base}"'
        try:
            found = manager.find_preset(base)
        except UserError as error:
            kind = type(error) if isinstance(error, PluginError) else PluginError
            raise kind(f"{heir}: {error.message}", error.hint) from error
        if found in line:
            raise PluginError(f"{heir}, which goes round in a circle", "let one of them stand alone")
        line.append(found)
    table: dict[str, object] = {}
    for ancestor in reversed(line):
        table = merge(table, ancestor.preset.table)
    return replace(record.preset, extends="", table=table)
