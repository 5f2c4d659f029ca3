"""What a plugin must hold to when it registers: known hooks, and lists of well-formed records."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import pluggy

from ptqbench.errors import PluginError
from ptqbench.plugin.component import NOTES, Component, Options, Preset
from ptqbench.plugin.hookspecs import HOOKS, ROLES
from ptqbench.plugin.names import nearest, role_words

_ROLES = [role.name for role in ROLES]
NAME = re.compile(r"[a-z0-9][a-z0-9._+-]*")

E = TypeVar("E", Component, Preset)


def check_hooks(manager: pluggy.PluginManager, plugin: object) -> None:
    """Raise `PluginError` if the plugin implements an unknown hook, a wrapper, or none at all."""
    found = {name: manager.parse_hookimpl_opts(plugin, name) for name in dir(plugin)}
    marked = {name: options for name, options in found.items() if options is not None}
    if not marked:
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


def check_components(returned: object) -> list[Component]:
    """What `ptqbench_components` returned as a list of components. Raises `PluginError` if it is anything else."""
    hook = "ptqbench_components"
    items = _checked_list(hook, returned, Component)
    for item in items:
        _check_component(hook, item)
    return items


def check_presets(returned: object) -> list[Preset]:
    """What `ptqbench_presets` returned, with tables copied as TOML would hold them. Raises as above."""
    hook = "ptqbench_presets"
    return [_checked_preset(hook, item) for item in _checked_list(hook, returned, Preset)]


def _checked_list(hook: str, returned: object, kind: type[E]) -> list[E]:
    """What components and presets have in common: a list of records, well named, each name once."""
    if isinstance(returned, str | bytes | kind) or not isinstance(returned, Iterable):
        raise PluginError(f'"{hook}" returned {type(returned).__name__} instead of a list of {kind.__name__} records')
    items: list[E] = []
    for item in returned:
        if not isinstance(item, kind):
            raise PluginError(f'"{hook}" returned a list with {type(item).__name__} instead of {kind.__name__} records')
        if not isinstance(item.name, str) or not NAME.fullmatch(item.name):
            what = kind.__name__.lower()
            raise PluginError(f'"{hook}": {item.name!r} is no {what} name: lower-case letters, digits and . _ + - only')
        if not isinstance(item.summary, str):
            raise PluginError(f'"{hook}": the summary of "{item.name}" is no string')
        for note in NOTES:
            texts = getattr(item, note)
            if not isinstance(texts, tuple) or not all(isinstance(text, str) for text in texts):
                raise PluginError(f'"{hook}": `{note}` of "{item.name}" is no tuple of strings')
        items.append(item)
    twice = sorted(
        f"the {role_words(role)} {name}" for (role, name), n in Counter((i.role, i.name) for i in items).items() if n > 1
    )
    if twice:
        raise PluginError(f'"{hook}" registers {", ".join(twice)} twice')
    return items


def _check_component(hook: str, item: Component) -> None:
    if item.role not in _ROLES:
        close = nearest(str(item.role), _ROLES)
        remedy = f'did you mean "{close}"?' if close else f"roles are {', '.join(_ROLES)}"
        raise PluginError(f'"{hook}": "{item.name}" is of the role {item.role!r}, which is none; {remedy}')
    if not isinstance(item.options, type) or not issubclass(item.options, Options):
        raise PluginError(f'"{hook}": the options of "{item.name}" are no subclass of ptqbench.Options')
    target = item.target
    if not isinstance(target, type) and not re.fullmatch(r"[\w.]+:\w+", str(target)):
        raise PluginError(f'"{hook}": the target of "{item.name}" is neither "package.module:Class" nor a class')


def _checked_preset(hook: str, item: Preset) -> Preset:
    owner = f'"{hook}": the table of "{item.name}"'
    if not isinstance(item.table, Mapping):
        raise PluginError(f"{owner} is {type(item.table).__name__} instead of a table")
    for key in ("extends", "method"):
        if key in item.table:
            raise PluginError(f"{owner} has the key {key}: a preset stands alone, so its table must say everything itself")
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
