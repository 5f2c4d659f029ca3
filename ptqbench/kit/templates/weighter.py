"""Calibration samples of early steps count more."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Generator, Tensor

from ptqbench import Component, Options, hookimpl
from ptqbench.roles.weighter import Batch, InnerProblem, SampleWeighter


class ExampleOptions(Options):
    """What a recipe may set."""

    factor: float = Field(2.0, gt=0, description="weight of the noisiest step, where the cleanest has 1")


class Example(SampleWeighter):
    """Weights that fall from the first sampling step to the last. One instance serves one unit in one phase."""

    options: ExampleOptions

    def begin_unit(self, unit: str, phase: str, problem: InnerProblem, rng: Generator) -> None:
        """`rng` is the only source of randomness; `problem` has losses, trainables, and validation samples if required."""
        self.by_step = torch.linspace(self.options.factor, 1.0, len(problem.timesteps))

    def weights(self, batch: Batch, problem: InnerProblem) -> Tensor:
        """(B,) >= 0, detached, of any scale: each mini-batch is rescaled to mean 1."""
        return self.by_step.to(batch.step.device)[batch.step]


@hookimpl
def ptqbench_components() -> list[Component]:
    return [Component("weighter", "example", "early steps count more", Example, ExampleOptions)]
