"""Takes the mean error of each sampling step away from the quantized network's prediction."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor

from ptqbench import Component, Options, hookimpl
from ptqbench.roles.hook import PredictionPairs, SamplerHook


class ExampleOptions(Options):
    """What a recipe may set."""

    share: float = Field(1.0, gt=0, le=1, description="how much of the mean error is taken away")


class Example(SamplerHook):
    """A table of means, one for each step and channel. What `fit` returns is all that `restore` gets."""

    options: ExampleOptions
    trajectories = 16

    def fit(self, pairs: PredictionPairs) -> Mapping[str, Tensor]:
        """Means (S, C) of quantized minus full precision, over trajectories and pixels."""
        errors = []
        for step in range(pairs.steps):
            full, quantized = pairs.at(step)
            errors.append((quantized - full).mean((0, 2, 3)))
        return {"mean": self.options.share * torch.stack(errors)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Also in a fresh run, on whatever device sampling runs."""
        self.mean = state["mean"]

    def prediction(self, step: Tensor, eps: Tensor) -> Tensor:
        """eps (B, C, H, W) of which each row is at its own step (B,)."""
        return eps - self.mean[step][:, :, None, None]


@hookimpl
def ptqbench_components() -> list[Component]:
    return [Component("sampler-hook", "example", "removes mean errors", Example, ExampleOptions)]
