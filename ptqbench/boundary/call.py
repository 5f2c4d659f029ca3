"""A call into a plugin: the boundary knows whose code runs, so that whatever comes out of it has an owner. No torch."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from ptqbench.boundary.watch import watch
from ptqbench.errors import UserError
from ptqbench.failures import PLUGIN_ERRORS, PluginFault, fault
from ptqbench.plugin.names import role_words
from ptqbench.process.snapshot import listed, remedies

METHOD_ROLES = (
    "sampler",
    "weighter",
    "reconstruction",
    "loss",
    "weight-quantizer",
    "activation-quantizer",
    "range",
    "pass",
    "partitioner",
    "sampler-hook",
    "network-quantizer",
)
"""Roles whose components make a method."""

_CORE = __name__.partition(".")[0]


@dataclass(frozen=True)
class Owner:
    """Whose code is called: a component of a role, by its name and plugin. `package` is where the code of its class lives."""

    role: str
    name: str
    plugin: str
    package: str = ""

    def __str__(self) -> str:
        return f'the {role_words(self.role)} "{self.name}" of plugin "{self.plugin}"'


@dataclass(frozen=True)
class Call:
    """One method of a component; "" for a command, which has none."""

    owner: Owner
    method: str

    def __str__(self) -> str:
        component = f'the {role_words(self.owner.role)} "{self.owner.name}"'
        return f"{self.method}() of {component}" if self.method else component

    def refused(self, what: str, remedy: str) -> PluginFault:
        """The error for what the call returned or did: `what` goes on from the component, `remedy` says what would be right."""
        return PluginFault(f"{self.owner} {what}", f"{remedy}: mend its {self.method}()" if self.method else remedy)


_ASIDE = (f"{_CORE}.boundary", f"{_CORE}.plugin.component")
"""Modules whose lines are not where an error came from: they look at calls, or refuse that options are changed."""

_running: ContextVar[tuple[Call, ...]] = ContextVar("the calls into plugins that are under way, innermost last", default=())


def nested(owner: Owner) -> bool:
    """Whether the code that is running is this owner's: the innermost call into a plugin is one of its own."""
    calls = _running.get()
    return bool(calls) and calls[-1].owner == owner


def keep_from_methods(what: str) -> None:
    """Raises `PluginFault` if code of a method is running: `what` is for measuring it, and new to it."""
    for call in reversed(_running.get()):
        if call.owner.role in METHOD_ROLES:
            remedy = "calibrate on what the call is given; what a method was fitted on says nothing about what it has not seen"
            raise call.refused(f"asked for {what}, which methods are measured on", remedy)


class calling:
    """While the block runs, what it raises is the call's: `PluginFault`, unless the core raised it when the plugin called it.

    An error that tells itself (`UserError`) passes as it is, and memory or a file that a user can see to is told as such.
    State of the process that the call moved is put back; to move it is an error as well.
    """

    def __init__(self, call: Call) -> None:
        self.call = call

    def __enter__(self) -> Call:
        self._token = _running.set((*_running.get(), self.call))
        owner = self.call.owner
        # A command has the process for itself.
        self._watch = watch(owner.role, owner.name, owner.plugin, self.call.method) if self.call.method else None
        return self.call

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _running.reset(self._token)
        moved = self._watch.moved() if self._watch else []
        if error is None and moved:
            raise self.call.refused(f"moved {listed(moved)} in {self.call.method}()", remedies(moved))
        if not isinstance(error, PLUGIN_ERRORS) or isinstance(error, UserError):
            return
        line, raised = _line(trace, self.call.owner.package)
        if not raised:
            error.add_note(f'{_CORE} was called by plugin "{self.call.owner.plugin}" in {self.call}, at {line}')
            return
        found = fault(error, self.call.owner.plugin, str(self.call), line)
        if found is not None:
            raise found from error


def _line(trace: TracebackType | None, package: str) -> tuple[str, bool]:
    """The innermost line of a package that an error went through, as file:line, and whether no line of the core is deeper."""
    line, raised = "", True
    for frame, number in traceback.walk_tb(trace):
        module = str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] == package:
            line, raised = f"{frame.f_code.co_filename}:{number}", True
        elif module.partition(".")[0] == _CORE and not module.startswith(_ASIDE):
            raised = False
    return line, raised


def wrapped(call: Call, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is a call into a plugin, unless the plugin makes it itself."""

    @functools.wraps(function)
    def entry(*args: Any, **kwargs: Any) -> Any:
        if nested(call.owner):
            return function(*args, **kwargs)
        with calling(call):
            return function(*args, **kwargs)

    return entry
