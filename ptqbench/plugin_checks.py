"""What a plugin must hold to when it registers: known hooks, and lists of well-formed components."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pluggy

from ptqbench.component import Component, Options
from ptqbench.errors import PluginError
from ptqbench.hookspecs import ROLES
from ptqbench.names import nearest

NAME = re.compile(r"[a-z0-9][a-z0-9._+-]*")
HOOKS = (*(role.hook for role in ROLES), "ptqbench_commands")


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


def check_components(hook: str, returned: object) -> list[Component]:
    """The hook's result as a list of components. Raises `PluginError` with the hook's name if it is anything else."""
    if isinstance(returned, str | bytes | Component) or not isinstance(returned, Iterable):
        kind = type(returned).__name__
        raise PluginError(f'"{hook}" returned {kind} instead of a list of Component records')
    items = list(returned)
    for item in items:
        _check_component(hook, item)
    names = [item.name for item in items]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PluginError(f'"{hook}" registers {", ".join(twice)} twice')
    return items


def _check_component(hook: str, item: object) -> None:
    if not isinstance(item, Component):
        raise PluginError(f'"{hook}" returned a list with {type(item).__name__} instead of Component records')
    if not isinstance(item.name, str) or not NAME.fullmatch(item.name):
        raise PluginError(f'"{hook}": {item.name!r} is no component name: lower-case letters, digits and . _ + - only')
    if not isinstance(item.options, type) or not issubclass(item.options, Options):
        raise PluginError(f'"{hook}": the options of "{item.name}" are no subclass of ptqbench.Options')
    target = item.target
    if not isinstance(target, type) and not re.fullmatch(r"[\w.]+:\w+", str(target)):
        raise PluginError(f'"{hook}": the target of "{item.name}" is neither "package.module:Class" nor a class')
    if not isinstance(item.summary, str):
        raise PluginError(f'"{hook}": the summary of "{item.name}" is no string')
