"""What a plugin must hold to when it registers: known hooks, and lists of well-formed records."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import FunctionType, MethodType, ModuleType
from typing import Any

import pluggy

from ptqbench.errors import PluginError
from ptqbench.plugin.component import NOTES, Component, Options, Preset
from ptqbench.plugin.hookspecs import HOOKS, ROLES
from ptqbench.plugin.names import nearest, role_words
from ptqbench.plugin.preset_file import preset_file

_ROLES = [role.name for role in ROLES]
NAME = re.compile(r"[a-z0-9][a-z0-9._+-]*")
_FUNCTIONS = (FunctionType, MethodType, classmethod, staticmethod)


class Hooks(pluggy.PluginManager):
    """pluggy's, which looks at every name, as does `check_hooks`: what in a module is no function need not be taken apart."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:
        if isinstance(plugin, ModuleType) and not isinstance(vars(plugin).get(name), _FUNCTIONS):
            return None
        return super().parse_hookimpl_opts(plugin, name)


def check_hooks(manager: pluggy.PluginManager, plugin: object) -> None:
    """Raise `PluginError` if the plugin implements an unknown hook, a wrapper, or none at all and has no presets either."""
    found = {name: manager.parse_hookimpl_opts(plugin, name) for name in dir(plugin)}
    marked = {name: options for name, options in found.items() if options is not None}
    if not marked and not preset_file(plugin):
        forgotten = sorted(name for name in found if name in HOOKS)
        hint = f": mark {', '.join(forgotten)} with @hookimpl" if forgotten else ""
        raise PluginError(f"it implements no hook of ptqbench{hint}")
    for name, options in marked.items():
        hook = options.get("specname") or name
        if hook not in HOOKS:
            close = nearest(hook, HOOKS)
            remedy = f'did you mean "{close}"?' if close else f"hooks are {', '.join(HOOKS)}"
            raise PluginError(f'it implements "{hook}", which is not a hook of ptqbench; {remedy}')
        if options.get("wrapper") or options.get("hookwrapper"):
            raise PluginError(f'"{hook}" is a hook wrapper, and ptqbench has no use for those')


def hook_results(manager: pluggy.PluginManager, plugin: object, hook: str) -> list[Any]:
    """What this plugin's implementations of one hook return.

    pluggy's own call drops a None, which would hide a forgotten `return`, and lets one plugin's exception end the call
    for all; so implementations are called one by one.
    """
    caller = getattr(manager.hook, hook)
    return [impl.function() for impl in caller.get_hookimpls() if impl.plugin is plugin]


def check_records(source: str, returned: object) -> list[Component | Preset]:
    """What a hook returned, or a file holds (`source`), as a list of well-formed records, each name once in its role.

    Tables of presets are copied as TOML would hold them. Raises `PluginError` if it is anything else.
    """
    if isinstance(returned, str | bytes | Component | Preset) or not isinstance(returned, Iterable):
        raise PluginError(f"{source} returned {type(returned).__name__} instead of a list of Component records")
    items = [_checked(source, item) for item in returned]
    counts = Counter((item.role, item.name) for item in items)
    if twice := sorted(f"the {role_words(role)} {name}" for (role, name), count in counts.items() if count > 1):
        raise PluginError(f"{source} registers {', '.join(twice)} twice")
    return items


def _checked(source: str, item: object) -> Component | Preset:
    if not isinstance(item, Component | Preset):
        raise PluginError(f"{source} returned a list with {type(item).__name__} instead of Component records")
    what = type(item).__name__.lower()
    if not isinstance(item.name, str) or not NAME.fullmatch(item.name):
        raise PluginError(f"{source}: {item.name!r} is no {what} name: lower-case letters, digits and . _ + - only")
    for field in ("summary", "paper"):
        if not isinstance(getattr(item, field), str):
            raise PluginError(f'{source}: the {field} of "{item.name}" is no string')
    for note in NOTES:
        texts = getattr(item, note)
        if not isinstance(texts, tuple) or not all(isinstance(text, str) for text in texts):
            raise PluginError(f'{source}: `{note}` of "{item.name}" is no tuple of strings')
    return _checked_preset(source, item) if isinstance(item, Preset) else _checked_component(source, item)


def _checked_component(source: str, item: Component) -> Component:
    if item.role not in _ROLES:
        close = nearest(str(item.role), _ROLES)
        remedy = f'did you mean "{close}"?' if close else f"roles are {', '.join(_ROLES)}"
        raise PluginError(f'{source}: "{item.name}" is of the role {item.role!r}, which is none; {remedy}')
    if not isinstance(item.options, type) or not issubclass(item.options, Options):
        raise PluginError(f'{source}: the options of "{item.name}" are no subclass of ptqbench.Options')
    if not isinstance(item.target, type) and not re.fullmatch(r"[\w.]+:\w+", str(item.target)):
        raise PluginError(f'{source}: the target of "{item.name}" is neither "package.module:Class" nor a class')
    return item


def _checked_preset(source: str, item: Preset) -> Preset:
    owner = f'{source}: the table of "{item.name}"'
    if not isinstance(item.table, Mapping):
        raise PluginError(f"{owner} is {type(item.table).__name__} instead of a table")
    if not isinstance(item.extends, str):
        raise PluginError(f'{source}: what "{item.name}" extends is no string')
    for key in ("extends", "method"):
        if key in item.table:
            raise PluginError(f"{owner} has the key {key}: what a preset starts from stands beside its table, as `extends`")
    return replace(item, table=_as_toml(item.table, owner))


def _as_toml(value: Any, owner: str) -> Any:
    """A copy in the types that a TOML file gives, so that a preset means what its table means in a recipe."""
    if isinstance(value, Mapping):
        strange = next((key for key in value if not isinstance(key, str)), None)
        if strange is not None:
            raise PluginError(f"{owner} has the key {strange!r}, which is no string")
        return {key: _as_toml(inner, owner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_as_toml(inner, owner) for inner in value]
    if type(value) in (str, bool, int, float):
        return value
    raise PluginError(f"{owner} holds {value!r}: a recipe can say strings, numbers, true, false, arrays and tables only")
