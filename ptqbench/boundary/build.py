"""Building components whose every call goes through the boundary."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ptqbench.boundary.call import Call, Owner, calling, nested
from ptqbench.plugin.component import Bound
from ptqbench.plugin.hookspecs import ROLES

Check = Callable[..., Any]
"""Looks at what a call returned: gets the call, the component, what came back and the arguments; gives what the core gets.

Raises what `Call.refused` makes. A role's checks stand in the module of this room that is called like the interface's, under
the names of its methods in `CHECKS`.
"""

_OWNER = "_boundary_owner"
_MODULES = {role.name: role.module for role in ROLES}


def owner_of(bound: Bound) -> Owner:
    """Whose code a chosen component is."""
    package = bound.component.load().__module__.partition(".")[0]
    return Owner(bound.role, bound.name, bound.plugin, package)


def build(bound: Bound, **context: Any) -> Any:
    """A component as `Bound.create` makes it; its methods, the public ones of its interface, are calls into its plugin.

    Raises `PluginFault` where it cannot be built.
    """
    owner = owner_of(bound)
    guarded = _guarded(bound.component.load(), _MODULES[bound.role])
    with calling(Call(owner, "__init__")):
        component = guarded(bound.options, **context)
    object.__setattr__(component, _OWNER, owner)
    return component


@functools.cache
def _guarded(found: type, module: str) -> type:
    """A subclass whose interface's methods are calls into the plugin. Components of one class share it."""
    names = {
        name
        for interface in found.__mro__
        if interface.__module__.startswith("ptqbench.roles.")
        for name, value in vars(interface).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }
    checks: Mapping[str, Check] = importlib.import_module(f"ptqbench.boundary.{module}").CHECKS
    methods = {name: _entry(found, name, checks.get(name)) for name in sorted(names)}
    return type(found)(found.__name__, (found,), {**methods, "__module__": found.__module__, "__doc__": found.__doc__})


def _entry(found: type, name: str, check: Check | None) -> Callable[..., Any]:
    """A method as the core calls it. What a component calls of itself is its own business."""

    @functools.wraps(getattr(found, name))
    def entry(self: Any, *args: Any, **kwargs: Any) -> Any:
        method = functools.partial(getattr(found, name), self)
        owner = self.__dict__.get(_OWNER)
        if owner is None or nested(owner):
            return method(*args, **kwargs)
        call = Call(owner, name)
        with calling(call):
            returned = method(*args, **kwargs)
        if inspect.isgenerator(returned):
            return _steps(call, returned)
        return returned if check is None else check(call, self, returned, *args, **kwargs)

    return entry


def _steps(call: Call, iterator: Iterator[Any]) -> Iterator[Any]:
    """A generator whose steps are calls into the plugin."""
    while True:
        with calling(call):
            try:
                value = next(iterator)
            except StopIteration as end:
                return end.value
        yield value
