"""Modules that take another's place in a network."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn


class StandIn(nn.Module):
    """What it does not have is the module's that it stands for: networks and pipelines read such of their parts.

    `stands_for` names the submodule.
    """

    stands_for: ClassVar[str]

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == self.stands_for:
                raise
            return getattr(super().__getattr__(self.stands_for), name)
