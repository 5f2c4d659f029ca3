"""`presets.toml` in a plugin's package: a table for each preset, and what all of them share."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path

from ptqbench.errors import PluginError, why_unreadable
from ptqbench.plugin.component import NOTES, Preset
from ptqbench.plugin.names import nearest

NAME = "presets.toml"
KEYS = [field.name for field in fields(Preset) if field.name != "name"]


def preset_file(plugin: object) -> Path | None:
    """The file of presets beside a package's `__init__.py`; None if there is none, or if the plugin is no package."""
    places = (Path(folder) / NAME for folder in getattr(plugin, "__path__", ()))
    return next((place for place in places if place.is_file()), None)


def read_presets(path: Path) -> list[Preset]:
    """The presets of a file. A `paper` at its top is that of all presets that name none.

    Raises `PluginError` if it cannot be read, or says what a preset has not; what values must be is checked with all records.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise PluginError(f"{path} cannot be read: {why_unreadable(error)}") from error
    shared = {"paper": data.pop("paper")} if isinstance(data.get("paper"), str) else {}
    return [_preset(path, name, shared, table) for name, table in data.items()]


def _preset(path: Path, name: str, shared: dict[str, str], table: object) -> Preset:
    if not isinstance(table, dict):
        raise PluginError(f'{path}: "{name}" is no table: write [{name}], and what it stands for as [{name}.table]')
    for key in table:
        if key not in KEYS:
            close = nearest(key, KEYS)
            remedy = f'did you mean "{close}"?' if close else f"a preset has {', '.join(KEYS)}"
            raise PluginError(f'{path}: unknown key "{key}" of "{name}"; {remedy}')
    for key in ("summary", "table"):
        if key not in table:
            raise PluginError(f'{path}: "{name}" has no {key}')
    # TOML has arrays where records have tuples.
    notes = {note: tuple(table[note]) for note in NOTES if isinstance(table.get(note), list)}
    return Preset(name, **{**shared, **table, **notes})
