"""A small convolutional denoiser with random weights: replace `build` and `fingerprint` by what loads yours."""

from __future__ import annotations

import hashlib

import torch
from pydantic import Field
from torch import Tensor, nn

from ptqbench import Component, Options, hookimpl
from ptqbench.roles.model import Conditions, DiffusionModel, ModelSource


class ExampleOptions(Options):
    """What a recipe may set."""

    width: int = Field(8, ge=1, description="channels of the hidden layer")
    seed: int = Field(0, description="seed of the weights")


class Denoiser(nn.Module):
    """Predicts noise (B, 1, H, W) from x and the timestep (B,)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.time, self.last = nn.Conv2d(1, width, 3, padding=1), nn.Linear(1, width), nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        shift = self.time(t[:, None].to(x) / 1000)[:, :, None, None]
        return self.last(torch.relu(self.first(x) + shift))


def call(denoiser: nn.Module, x: Tensor, t: Tensor, cond: Conditions) -> Tensor:
    """One evaluation; `denoiser` is the full-precision one or a quantized copy."""
    found: Tensor = denoiser(x, t)
    return found


class Example(ModelSource):
    """Loads in float32, eval mode, gradients off. Random numbers that a network is filled with at first are put back."""

    options: ExampleOptions

    def fingerprint(self) -> str:
        """A hash of everything that decides the weights: for files, `ptqbench.digest.fingerprint`."""
        return hashlib.sha256(repr(self.options).encode()).hexdigest()

    def load(self, device: torch.device) -> DiffusionModel:
        """The denoiser with its training noise schedule (T,) float64, the shape of its latents, and its decoder."""
        torch.manual_seed(self.options.seed)
        denoiser = Denoiser(self.options.width).to(device).eval().requires_grad_(False)
        betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
        return DiffusionModel(denoiser, call, (1 - betas).cumprod(0), (1, 8, 8), decode=lambda x: x.clamp(-1, 1))


@hookimpl
def ptqbench_components() -> list[Component]:
    return [Component("model", "example", "a small denoiser", Example, ExampleOptions)]
