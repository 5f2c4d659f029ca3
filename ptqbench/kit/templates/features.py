"""Means of patches as features: replace `extract` by a network of yours."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ptqbench import Component, Options, hookimpl
from ptqbench.roles.features import POOL, FeatureExtractor


class ExampleOptions(Options):
    """What a recipe may set."""

    patches: int = Field(2, ge=1, description="patches in each direction")


class Example(FeatureExtractor):
    """Images (N, C, H, W) uint8 of any size, by patches of their grey values in [0, 1]."""

    options: ExampleOptions

    def fingerprint(self) -> str:
        """A hash of the network's weights; features are kept under it."""
        return hashlib.sha256(repr(self.options).encode()).hexdigest()

    def outputs(self) -> Mapping[str, int]:
        """Widths by name, known without weights; "pool" is always there."""
        return {POOL: self.options.patches**2}

    def prepare(self, device: torch.device) -> None:
        """Load weights; there are none."""
        self.device = device

    def extract(self, images: Tensor) -> Mapping[str, Tensor]:
        """(N, width) float32; row i must depend on image i alone."""
        grey = images.to(self.device).float().mean(1, keepdim=True) / 255
        return {POOL: F.adaptive_avg_pool2d(grey, self.options.patches).flatten(1)}


@hookimpl
def ptqbench_components() -> list[Component]:
    return [Component("features", "example", "means of patches", Example, ExampleOptions)]
