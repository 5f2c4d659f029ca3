"""What plugins registered, as records that listings and recipes look up by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ptqbench.plugin.component import Component, Preset
from ptqbench.plugin.sources import PluginInfo

E = TypeVar("E", Component, Preset)


@dataclass(frozen=True)
class Registered(Generic[E]):
    """One thing that a plugin offers, and the plugin."""

    entry: E
    plugin: PluginInfo

    @property
    def role(self) -> str:
        """The role that it is listed under."""
        return self.entry.role

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def qualified(self) -> str:
        """The name that is never ambiguous: "plugin/name"."""
        return f"{self.plugin.name}/{self.entry.name}"


class Record(Registered[Component]):
    """A registered component."""

    @property
    def component(self) -> Component:
        return self.entry


class PresetRecord(Registered[Preset]):
    """A registered preset."""

    @property
    def preset(self) -> Preset:
        return self.entry


R = TypeVar("R", bound=Registered[Any])


def called(name: str, records: Iterable[R]) -> tuple[R, ...]:
    """Those of the records that are meant by `name` or "plugin/name"."""
    return tuple(record for record in records if name in (record.name, record.qualified))
