"""Activations on a grid whose range is a little narrower than what was observed."""

from __future__ import annotations

from pydantic import Field

from ptqbench import Component, Options, hookimpl
from ptqbench.quant.uniform import UniformQuantizer


class ExampleOptions(Options):
    """What a recipe may set."""

    shrink: float = Field(0.95, gt=0, le=1, description="how much of the observed range the grid covers")


class Example(UniformQuantizer):
    """A fixed grid. `scale` and `zero_point` are (K, G): K step groups, G rows with a scale each."""

    options: ExampleOptions

    def freeze(self) -> None:
        """The estimators' grids, narrower; the zero point is a code, and stays."""
        super().freeze()
        self.scale = self.scale * self.options.shrink


@hookimpl
def ptqbench_components() -> list[Component]:
    return [Component("activation-quantizer", "example", "a narrower range", Example, ExampleOptions)]
