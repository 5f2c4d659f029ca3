"""torch itself, for comparison: full precision and the simulation, as they are."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from ptqbench import Component, Options, hookimpl
from ptqbench.roles.engine import Engine, Program
from ptqbench.roles.exporter import Deployable, Inputs


class ExampleOptions(Options):
    """What a user may set."""

    repeats: int = Field(1, ge=1, description="evaluations for each that is asked for")


class Example(Engine):
    """Nothing is executed on integers, and the share says so."""

    options: ExampleOptions
    version = f"torch {torch.__version__}"

    def load(self, cell: Deployable, quantized: bool, folder: Path, threads: int) -> Program:
        """An engine with files of its own writes them in `prepare(cell, quantized, folder)`."""
        evaluate = cell.simulated if quantized else cell.in_full_precision

        def run(given: Inputs) -> Tensor:
            for _ in range(self.options.repeats):
                found = evaluate(given)
            return found.cpu()

        return Program(run, integer_share=0.0)


@hookimpl
def ptqbench_components() -> list[Component]:
    return [Component("engine", "example", "torch, as it is", Example, ExampleOptions)]
