"""Ranges that cover so many standard deviations of what was observed."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from ptqbench import Component, Options, hookimpl
from ptqbench.quant.grid import Levels
from ptqbench.roles.range import RangeEstimator


class ExampleOptions(Options):
    """What a recipe may set."""

    deviations: float = Field(4.0, gt=0, description="half of the range in standard deviations")


class Example(RangeEstimator):
    """Mean and deviation over all batches, but no further than values went."""

    options: ExampleOptions

    def __init__(self, options: ExampleOptions, *, levels: Levels) -> None:
        super().__init__(options, levels=levels)
        self.sums: list[Tensor] = []

    def observe(self, values: Tensor) -> None:
        """values (G, n): a row for each scale."""
        x = values.double()
        n = torch.full_like(x[:, 0], x.shape[1])
        self.sums.append(torch.stack([n, x.sum(1), x.square().sum(1), x.amin(1), x.amax(1)]))

    def grid(self) -> tuple[Tensor, Tensor]:
        """Scale and zero point, (G,) each; `from_range` knows symmetric and non-negative levels."""
        sums = torch.stack(self.sums)
        n, total, squares = sums[:, :3].sum(0)
        mean = total / n
        reach = self.options.deviations * (squares / n - mean.square()).clamp_min(0).sqrt()
        low, high = torch.maximum(mean - reach, sums[:, 3].amin(0)), torch.minimum(mean + reach, sums[:, 4].amax(0))
        return self.levels.from_range(low.float(), high.float())


@hookimpl
def ptqbench_components() -> list[Component]:
    return [Component("range", "example", "mean and deviations", Example, ExampleOptions)]
