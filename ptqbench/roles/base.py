"""What the interfaces of all roles have in common."""

from __future__ import annotations

from ptqbench.plugin.component import Options


class WithOptions:
    """Built as `Class(options)`, from what a recipe says of it."""

    def __init__(self, options: Options) -> None:
        self.options = options
