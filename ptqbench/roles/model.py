"""Model sources: where a denoiser, its noise schedule and its decoder come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ptqbench.plugin.component import Options

Conditions = Mapping[str, Tensor]
"""Per-sample conditions, each (N, ...); empty for an unconditional model."""


def unconditional(ids: Sequence[int]) -> Conditions:
    """The conditions of a model that has none."""
    return {}


@dataclass
class DiffusionModel:
    """A full-precision diffusion model as the engine sees it.

    `predict(denoiser, x, t, cond)` returns the noise prediction (N, C, H, W) for x (N, C, H, W), t (N,) int64; it gets the
    denoiser passed in, because the engine calls it with quantized copies as well. `alphas_cumprod` is the training noise
    schedule, (T,) float64. `decode(x0)` maps final latents to images (N, C', H', W') in [-1, 1]. `conditions(ids)` gives the
    conditions of images by id, the same for every method.
    """

    denoiser: nn.Module
    predict: Callable[[nn.Module, Tensor, Tensor, Conditions], Tensor]
    alphas_cumprod: Tensor
    shape: tuple[int, int, int]
    decode: Callable[[Tensor], Tensor]
    conditions: Callable[[Sequence[int]], Conditions] = unconditional


class ModelSource(ABC):
    """Finds and loads a model. Built as `Class(options)`; construction is cheap, `load` does the work."""

    def __init__(self, options: Options) -> None:
        self.options = options

    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 (hex) over weights and configuration: part of every cache key."""

    @abstractmethod
    def load(self, device: torch.device) -> DiffusionModel:
        """Load in eval mode, float32, gradients off. Raises `ptqbench.errors.UserError` if files are missing or wrong."""

    def reference_images(self) -> Tensor | None:
        """Real images of the model's domain, uint8 (N, C, H, W), or None where the source has none."""
        return None
