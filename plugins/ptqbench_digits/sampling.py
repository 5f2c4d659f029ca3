"""Deterministic DDIM for previews and the model card, and grids of images as PNG files."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ptqbench.roles.model import DiffusionModel
from ptqbench_digits.source import decode


def uniform_timesteps(total: int, steps: int) -> list[int]:
    """`steps` timesteps spread evenly over 0..total-1, in falling order, the last one first."""
    return [int(t) for t in torch.linspace(total - 1, 0, steps, dtype=torch.float64).round()]


@torch.no_grad()
def ddim(model: DiffusionModel, count: int, steps: int, seed: int, batch: int = 250, guidance: float | None = None) -> Tensor:
    """Images (count, 1, 16, 16) float32 in [-1, 1] with ids 0, 1, ..., by DDIM with eta 0 from the seed's noise.

    In pixel space the prediction of the clean image is clamped to [-1, 1] at each step.
    """
    model = model.guided(guidance)
    noise = torch.randn(count, *model.shape, generator=torch.Generator().manual_seed(seed))
    pieces = zip(noise.split(batch), torch.arange(count).split(batch), strict=True)
    return torch.cat([model.decode(_ddim_batch(model, x, ids.tolist(), steps)) for x, ids in pieces])


def _ddim_batch(model: DiffusionModel, x: Tensor, ids: list[int], steps: int) -> Tensor:
    alphas, conditions = model.alphas_cumprod, model.conditions_of(ids, x.device, "images")
    bound = 1.0 if model.decode is decode else torch.inf
    timesteps = uniform_timesteps(len(alphas), steps)
    for now, following in zip(timesteps, [*timesteps[1:], None], strict=True):
        alpha = float(alphas[now])
        after = 1.0 if following is None else float(alphas[following])
        t = torch.full((len(x),), now)
        epsilon = model.combine({name: model.call(model.denoiser, x, t, cond) for name, cond in conditions.items()})
        clean = ((x - (1.0 - alpha) ** 0.5 * epsilon) / alpha**0.5).clamp(-bound, bound)
        epsilon = (x - alpha**0.5 * clean) / (1.0 - alpha) ** 0.5
        x = after**0.5 * clean + (1.0 - after) ** 0.5 * epsilon
    return x


def save_grid(images: Tensor, path: Path, columns: int) -> None:
    """Write images uint8 (N, 1, H, W) as one PNG, `columns` per row, each pixel drawn four times as large."""
    from PIL import Image
    from torchvision.utils import make_grid

    enlarged = images.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    Image.fromarray(make_grid(enlarged, nrow=columns, pad_value=96)[0].numpy()).save(path, optimize=True)
