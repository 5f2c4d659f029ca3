"""Building components whose every call goes through the boundary."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

from ptqbench.boundary.call import Call, Owner, calling, nested
from ptqbench.plugin.component import Bound
from ptqbench.plugin.hookspecs import ROLES

Check = Callable[..., Any]
"""Makes a call and looks at it: gets the call, the component, the method and its arguments, and returns what the core gets.

Raises what `Call.refused` makes. A role's checks stand in the module of this room that is called like the interface's, under
the names of its methods in `CHECKS`; `check_made` looks at what the class says of itself.
"""

_OWNER, _OPTIONS = "_boundary_owner", "_boundary_options"
_MODULES = {role.name: role.module for role in ROLES}


def owner_of(bound: Bound) -> Owner:
    """Whose code a chosen component is."""
    package = bound.component.load().__module__.partition(".")[0]
    return Owner(bound.role, bound.name, bound.plugin, package)


def build(bound: Bound, **context: Any) -> Any:
    """A component as `Bound.create` makes it; its methods, the public ones of its interface, are calls into its plugin.

    Raises `PluginFault` where it cannot be built.
    """
    owner, module = owner_of(bound), _MODULES[bound.role]
    guarded = _guarded(bound.component.load(), module)
    with calling(Call(owner, "__init__")):
        component = guarded(bound.options, **context)
    options = getattr(component, "options", bound.options)
    object.__setattr__(component, _OPTIONS, (options, dict(options)))
    made = getattr(_checks(module), "check_made", None)
    if made is not None:
        made(Call(owner, ""), component)
    object.__setattr__(component, _OWNER, owner)
    return component


def _checks(module: str) -> ModuleType:
    return importlib.import_module(f"ptqbench.boundary.{module}")


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
    checks: Mapping[str, Check] = _checks(module).CHECKS
    methods = {name: _entry(found, name, checks.get(name)) for name in sorted(names)}
    return type(found)(found.__name__, (found,), {**methods, "__module__": found.__module__, "__doc__": found.__doc__})


def _entry(found: type, name: str, check: Check | None) -> Callable[..., Any]:
    """A method as the core calls it. What a component calls of itself is its own business."""

    @functools.wraps(getattr(found, name))
    def entry(self: Any, *args: Any, **kwargs: Any) -> Any:
        owner = self.__dict__.get(_OWNER)
        if owner is None or nested(owner):
            return getattr(found, name)(self, *args, **kwargs)
        call = Call(owner, name)

        def method(*args: Any, **kwargs: Any) -> Any:
            with calling(call):
                returned = getattr(found, name)(self, *args, **kwargs)
            _check_options(call, self)
            return _steps(call, returned) if inspect.isgenerator(returned) else returned

        return method(*args, **kwargs) if check is None else check(call, self, method, *args, **kwargs)

    return entry


def _check_options(call: Call, component: Any) -> None:
    """A component cannot change its own options: results are kept under them."""
    options, values = component.__dict__[_OPTIONS]
    now = getattr(component, "options", options)
    if now is not options or any(getattr(now, name) is not value for name, value in values.items()):
        raise call.refused("changed its own options", "options are what the recipe says; keep what you compute in attributes")


def _steps(call: Call, iterator: Iterator[Any]) -> Iterator[Any]:
    """A generator whose steps are calls into the plugin."""
    while True:
        with calling(call):
            try:
                value = next(iterator)
            except StopIteration as end:
                return end.value
        yield value
