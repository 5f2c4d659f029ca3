"""Whether a call into a plugin left the process as it was: streams, defaults, modes, threads, warnings, the working folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from ptqbench.process.shared import OWN_STREAM, Shared
from ptqbench.process.snapshot import Snapshot

ONE_BY_ONE = frozenset({"sampler", "pass", "partitioner", "metric", "reporter", "exporter", "engine", "network-quantizer"})
"""Roles whose calls are few. Others are called for each mini-batch or layer, where looking would take longer than the call:
each of their methods is looked at in its 1st, 2nd, 4th, 8th ... call, and stages check settings at their end."""

LOADING = frozenset({"model", "features"})
"""Roles that build networks, which are filled at random before weights take their place: streams are just put back."""

_turns: Counter[tuple[str, str, str, str]] = Counter()
_looking: ContextVar[bool] = ContextVar("whether a call that is under way is looked at", default=False)

_always: ContextVar[tuple[str, str, str] | None] = ContextVar("the component of which all calls are looked at", default=None)

Turns = Mapping[tuple[str, str, str, str], int]
"""How often each method of a component was called: by role, name, plugin and method."""


class Watch:
    """Looks at one call of a component of this role. Calls inside one that is looked at are too, so that the innermost is
    blamed."""

    def __init__(self, role: str) -> None:
        self.role, self._before, self._token = role, Snapshot(), _looking.set(True)

    def moved(self) -> list[Shared]:
        """What the call moved and must not have; all of it is put back."""
        _looking.reset(self._token)
        found = self._before.moved().values()
        if found:
            self._before.put_back()
        return [shared for shared in found if not (self.role in LOADING and shared.instead == OWN_STREAM)]


def watch(role: str, name: str, plugin: str, method: str) -> Watch | None:
    """A look at the call that begins; None when its turn has not come."""
    key = (role, name, plugin, method)
    turn = _turns[key] = _turns[key] + 1
    if role in ONE_BY_ONE or turn & (turn - 1) == 0 or _looking.get() or key[:3] == _always.get():
        return Watch(role)
    return None


@contextmanager
def every_call(role: str, name: str, plugin: str) -> Iterator[None]:
    """Meanwhile all calls of this component are looked at."""
    token = _always.set((role, name, plugin))
    try:
        yield
    finally:
        _always.reset(token)


def turns() -> Turns:
    """Calls up to now."""
    return dict(_turns)


def called_since(before: Turns) -> list[str]:
    """The components that were called since, for messages: those that a single look may have missed."""
    new = [key[:3] for key, count in _turns.items() if count > before.get(key, 0)]
    return [f'"{name}" of plugin "{plugin}"' for role, name, plugin in dict.fromkeys(new) if role not in ONE_BY_ONE]
