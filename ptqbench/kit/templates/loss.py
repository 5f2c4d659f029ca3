"""Squares of small errors, absolute values of large ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor

from ptqbench import Component, Options, hookimpl
from ptqbench.fitting.losses import reduce_per_sample
from ptqbench.roles.loss import LossTerm, Outcome


class ExampleOptions(Options):
    """What a recipe may set."""

    scale: float = Field(0.1, gt=0, description="where squares turn into absolute values")


class Example(LossTerm):
    """sqrt(e^2 + scale^2) - scale, which has derivatives of all orders."""

    options: ExampleOptions

    def losses(self, outcome: Outcome) -> Mapping[str, Tensor]:
        """One part, (B,), over all outputs of the unit; "" names it like the term."""
        scale = self.options.scale
        errors = [
            reduce_per_sample(((ours - theirs).square() + scale**2).sqrt() - scale)
            for ours, theirs in zip(outcome.output, outcome.target, strict=True)
        ]
        return {"": torch.stack(errors).sum(0)}


@hookimpl
def ptqbench_components() -> list[Component]:
    return [Component("loss", "example", "smooth absolute error", Example, ExampleOptions)]
