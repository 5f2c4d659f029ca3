"""The process's state at one moment: what has moved since, and putting it back.

torch is looked at only where something has imported it, so that light commands stay light.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from ptqbench.process.shared import ONE_THREAD, UNKNOWN, Shared
from ptqbench.process.surroundings import SURROUNDINGS, random_streams


class Snapshot:
    """Values of a moment. Settings of torch that came only later, because it was imported, are held against fresh ones."""

    def __init__(self) -> None:
        self._settings = _settings()
        self.watched = {**self._settings, **random_streams(), **SURROUNDINGS}
        self.values = {name: shared.read() for name, shared in self.watched.items()}
        self._modules = len(sys.modules)

    def moved(self) -> dict[str, Shared]:
        """What has another value now, by name. Filters of warnings may: libraries set theirs when they are imported."""
        if not self._settings:
            self._settings = _settings()
            self.watched |= self._settings
            self.values |= {name: shared.fresh for name, shared in self._settings.items() if shared.fresh is not UNKNOWN}
        spared = "warnings" if len(sys.modules) != self._modules else ""
        known = {name: self.watched[name] for name in self.values if name != spared}
        return {name: shared for name, shared in known.items() if shared.read() != self.values[name]}

    def put_back(self) -> None:
        """Give what has moved its value of then."""
        # Twice, because one word for precision may change others.
        for _ in range(2):
            for name, shared in self.moved().items():
                shared.write(self.values[name])


@contextmanager
def undisturbed() -> Iterator[dict[str, Shared]]:
    """Whatever the block moves is put back at its end; what that was, the dict then says."""
    with ONE_THREAD:
        before, found = Snapshot(), dict[str, Shared]()
        try:
            yield found
        finally:
            found |= before.moved()
            before.put_back()


def listed(moved: Iterable[Shared]) -> str:
    """In words, for messages."""
    return " and ".join(shared.words for shared in moved)


def remedies(moved: Iterable[Shared]) -> str:
    """What to do instead, each once."""
    return "; ".join(dict.fromkeys(shared.instead for shared in moved))


def _settings() -> Mapping[str, Shared]:
    if "torch" not in sys.modules:
        return {}
    from ptqbench.process.torch_settings import torch_settings

    return torch_settings()
