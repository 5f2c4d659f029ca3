"""Deterministic DDIM for previews and the model card, and grids of images as PNG files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ptqbench_digits.data import CLASSES
from ptqbench_digits.networks import NULL_CLASS


def uniform_timesteps(total: int, steps: int) -> list[int]:
    """`steps` timesteps spread evenly over 0..total-1, in falling order, the last one first."""
    return [int(t) for t in torch.linspace(total - 1, 0, steps, dtype=torch.float64).round()]


Epsilon = Callable[[Tensor, Tensor], Tensor]
"""The noise prediction (N, 1, 16, 16) for x (N, 1, 16, 16) and t (N,)."""


@torch.no_grad()
def ddim(
    denoiser: nn.Module, alphas: Tensor, count: int, steps: int, seed: int, batch: int = 250, guidance: float | None = None
) -> Tensor:
    """Images (count, 1, 16, 16) float32 in [-1, 1], by DDIM with eta 0 from the seed's noise.

    `alphas` is the cumulative schedule (T,). The prediction of the clean image is clamped to [-1, 1] at each step. With
    `guidance`, the scale of a conditional denoiser's guidance, image i shows the digit i modulo 10.
    """
    noise = torch.randn(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed))
    labels = (torch.arange(count) % CLASSES).split(batch)
    return torch.cat(
        [
            _ddim_batch(_epsilon(denoiser, digits, guidance), alphas, x, steps)
            for x, digits in zip(noise.split(batch), labels, strict=True)
        ]
    )


def _epsilon(denoiser: nn.Module, labels: Tensor, guidance: float | None) -> Epsilon:
    return partial(_plain, denoiser) if guidance is None else partial(_guided, denoiser, labels, guidance)


def _plain(denoiser: nn.Module, x: Tensor, t: Tensor) -> Tensor:
    found: Tensor = denoiser(x, t).sample
    return found


def _guided(denoiser: nn.Module, labels: Tensor, guidance: float, x: Tensor, t: Tensor) -> Tensor:
    """Classifier-free guidance (arXiv:2207.12598) with the scale that 1 leaves alone."""
    anything: Tensor = denoiser(x, t, class_labels=torch.full_like(labels, NULL_CLASS)).sample
    digit: Tensor = denoiser(x, t, class_labels=labels).sample
    return anything + guidance * (digit - anything)


def _ddim_batch(predict: Epsilon, alphas: Tensor, x: Tensor, steps: int) -> Tensor:
    timesteps = uniform_timesteps(len(alphas), steps)
    for now, following in zip(timesteps, [*timesteps[1:], None], strict=True):
        alpha = float(alphas[now])
        after = 1.0 if following is None else float(alphas[following])
        epsilon = predict(x, torch.full((len(x),), now))
        clean = ((x - (1.0 - alpha) ** 0.5 * epsilon) / alpha**0.5).clamp(-1.0, 1.0)
        epsilon = (x - alpha**0.5 * clean) / (1.0 - alpha) ** 0.5
        x = after**0.5 * clean + (1.0 - after) ** 0.5 * epsilon
    return x.clamp(-1.0, 1.0)


def save_grid(images: Tensor, path: Path, columns: int = 8, scale: int = 4, gap: int = 2) -> None:
    """Write images uint8 (N, 1, H, W) as one PNG, `columns` per row, each pixel drawn `scale` times as large."""
    from PIL import Image

    enlarged = images[:, 0].repeat_interleave(scale, dim=1).repeat_interleave(scale, dim=2)
    height, width = enlarged.shape[1:]
    rows = -(-len(images) // columns)
    sheet = torch.full((rows * (height + gap) + gap, columns * (width + gap) + gap), 96, dtype=torch.uint8)
    for index, image in enumerate(enlarged):
        top, left = gap + (index // columns) * (height + gap), gap + (index % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
    Image.fromarray(sheet.numpy()).save(path, optimize=True)
