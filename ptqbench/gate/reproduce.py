"""The command that reproduces a cell."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ptqbench.results.record import RunRecord


@dataclass(frozen=True)
class Reproduce:
    """How a run was started: the words after `ptqbench run`."""

    arguments: Sequence[str] = ()

    @classmethod
    def of(cls, run: RunRecord) -> Reproduce:
        """From a record; one that does not say how it was started gets the recipe's name."""
        return cls(tuple(run.invocation) or (f"{run.name}.toml",))

    def command(self, cell: str) -> str:
        """`ptqbench run RECIPE ... --only CELL`, for a cell of the gate: all of its seeds."""
        words = ["ptqbench", "run", *(self.arguments or ["RECIPE"]), "--only", cell]
        return shlex.join(words)
