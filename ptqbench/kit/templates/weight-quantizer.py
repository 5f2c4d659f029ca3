"""Weights to the nearest level, in whatever way half of a level rounds."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ptqbench import Component, Options, hookimpl
from ptqbench.quant.uniform import UniformQuantizer


class ExampleOptions(Options):
    """What a recipe may set."""

    halves: Literal["up", "down"] = Field("up", description="where a weight goes that lies between two levels")


class Example(UniformQuantizer):
    """A fixed grid. `scale` and `zero_point` are (1, G): a row of step groups, a column for each output channel."""

    options: ExampleOptions

    def codes(self, x: Tensor) -> Tensor:
        """Integer codes of the weight x, of its shape, within the levels: what `export` stores and a layer computes with."""
        scale, zero_point = self._grid(x, None)
        steps = torch.floor(x / scale + 0.5) if self.options.halves == "up" else torch.ceil(x / scale - 0.5)
        return self.spec.levels.codes(steps + zero_point)


@hookimpl
def ptqbench_components() -> list[Component]:
    return [Component("weight-quantizer", "example", "to the nearest level", Example, ExampleOptions)]
