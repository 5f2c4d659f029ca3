"""A component on trial: chosen with its options, built and called through the boundary like in a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ptqbench.boundary.build import build, owner_of
from ptqbench.boundary.call import Call
from ptqbench.failures import PluginFault
from ptqbench.plugin.component import Bound
from ptqbench.plugin.manager import PluginManager


@dataclass(frozen=True)
class Trial:
    """`manager` knows the component's plugin and the installed ones, which fit it where a method has other parts."""

    bound: Bound
    manager: PluginManager = field(repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.bound.role}-{self.bound.name}"

    def build(self, **context: Any) -> Any:
        """A fresh instance."""
        return build(self.bound, **context)

    def fault(self, what: str, remedy: str) -> PluginFault:
        """The error for something that the component does; `what` goes on from its name."""
        return Call(owner_of(self.bound), "").refused(what, remedy)
