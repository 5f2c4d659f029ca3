"""Training of the denoisers: DDPM with noise prediction, and the loss that the model card reports."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptqbench_digits.data import digit_images, digit_labels, to_float
from ptqbench_digits.networks import (
    CONDITIONAL_CONFIG,
    DIT_CONFIG,
    LATENT_CONFIG,
    NULL_CLASS,
    UNET_CONFIG,
    LatentDigits,
    alphas_cumprod,
    build_network,
)

Report = Callable[[int, float, nn.Module], None]
"""Called after each step with the number of steps done, the batch's loss and the averaged denoiser."""


@dataclass(frozen=True)
class DenoiserSettings:
    """How the denoiser is trained; the defaults are those of the shipped weights.

    The cosine decay is laid out for `decay_stretch` times the steps, so training ends at 15 % of the peak rate.
    """

    steps: int = 3200
    seed: int = 0
    batch: int = 128
    learning_rate: float = 1.5e-3
    warm_up: int = 200
    decay_stretch: float = 1.3125
    weight_decay: float = 0.01
    clip: float = 1.0
    ema_decay: float = 0.998

    @property
    def network(self) -> dict[str, Any]:
        """The network that is trained so."""
        return UNET_CONFIG


@dataclass(frozen=True)
class ConditionalSettings(DenoiserSettings):
    """The same for the class-conditional denoiser, which sees the null class in place of a share `drop` of the labels."""

    batch: int = 64
    decay_stretch: float = 1.02
    drop: float = 0.1

    @property
    def network(self) -> dict[str, Any]:
        """The network that is trained so."""
        return CONDITIONAL_CONFIG


@dataclass(frozen=True)
class TransformerSettings(ConditionalSettings):
    """The same for the diffusion transformer."""

    learning_rate: float = 1e-3

    @property
    def network(self) -> dict[str, Any]:
        """The network that is trained so."""
        return DIT_CONFIG


@dataclass(frozen=True)
class LatentSettings(ConditionalSettings):
    """The same for the latent denoiser, whose autoencoder is trained first and then left alone.

    `divergence` weighs the Kullback-Leibler term of a code's distribution per pixel.
    """

    steps: int = 1800
    batch: int = 32
    decay_stretch: float = 2.04
    autoencoder_steps: int = 1200
    autoencoder_rate: float = 2e-3
    divergence: float = 1e-4

    @property
    def network(self) -> dict[str, Any]:
        """The network that is trained so; the scale of its codes follows from training."""
        return LATENT_CONFIG


def train_denoiser(settings: DenoiserSettings, report: Report, network: nn.Module | None = None) -> nn.Module:
    """Train on all 1797 images and return the denoiser with averaged weights, in eval mode.

    `network` is a `LatentDigits` with a trained autoencoder, or None for a new network. The result depends on the settings, the
    library versions and the number of threads, not on the caller's random state.
    """
    made = fresh(settings) if network is None else network
    denoiser = made.eval().to(memory_format=torch.channels_last)  # about a quarter faster on CPU
    average = copy.deepcopy(denoiser).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(
        [p for p in denoiser.parameters() if p.requires_grad],
        lr=settings.learning_rate,
        betas=(0.9, 0.99),
        weight_decay=settings.weight_decay,
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, settings))
    generator = torch.Generator().manual_seed(settings.seed)
    alphas = alphas_cumprod()
    images = clean_samples(denoiser)
    batches = image_batches(len(images), settings.batch, generator)
    for step in range(1, settings.steps + 1):
        chosen = next(batches)
        clean = images[chosen]
        t = _spread_timesteps(len(clean), len(alphas), generator)
        noise = torch.randn(clean.shape, generator=generator)
        labels = _labels(chosen, settings, generator)
        loss = noise_loss(denoiser, alphas, clean, t, noise, labels).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(denoiser.parameters(), settings.clip)
        optimizer.step()
        scheduler.step()
        _follow(average, denoiser, min(settings.ema_decay, step / (step + 10)))
        report(step, float(loss.detach()), average)
    return average.to(memory_format=torch.contiguous_format)


def fresh(settings: DenoiserSettings) -> nn.Module:
    """The settings' network with its seed's weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return build_network(settings.network)


def clean_samples(network: nn.Module) -> Tensor:
    """What the network learns to denoise: all images (1797, 1, 16, 16) in [-1, 1], or their latents."""
    images = to_float(digit_images())
    return network.encode(images) if isinstance(network, LatentDigits) else images


def noise_loss(
    denoiser: nn.Module, alphas: Tensor, clean: Tensor, t: Tensor, noise: Tensor, labels: Tensor | None = None
) -> Tensor:
    """Squared error of the noise prediction per image, (N,), for clean and noise (N, C, H, W), t and labels (N,) int64."""
    alpha = alphas[t].to(torch.float32).view(-1, 1, 1, 1)
    noisy = alpha.sqrt() * clean + (1.0 - alpha).sqrt() * noise
    return F.mse_loss(denoiser(noisy, t, class_labels=labels).sample, noise, reduction="none").mean(dim=(1, 2, 3))


@torch.no_grad()
def card_loss(denoiser: nn.Module, alphas: Tensor, batch: int = 128, *, conditional: bool = False) -> float:
    """Mean loss over all images with fixed noise and timesteps spread evenly over 0..T-1: one number to compare.

    A conditional denoiser is told the digit of each.
    """
    generator = torch.Generator().manual_seed(1797)
    clean = clean_samples(denoiser)
    noise = torch.randn(clean.shape, generator=generator)
    t = _spread_timesteps(len(clean), len(alphas), generator)
    order = torch.randperm(len(clean), generator=generator)  # or else t would follow the order of the data set
    pieces = torch.arange(len(clean)).split(batch)
    t, labels = t[order], digit_labels() if conditional else None
    losses = [noise_loss(denoiser, alphas, clean[i], t[i], noise[i], labels if labels is None else labels[i]) for i in pieces]
    return float(torch.cat(losses).mean())


def _rate(step: int, settings: DenoiserSettings) -> float:
    """The learning rate's factor: linear warm-up, then the first part of a half cosine."""
    warm_up = min(settings.warm_up, max(settings.steps // 4, 1))
    if step < warm_up:
        return (step + 1) / warm_up
    horizon = round(settings.steps * settings.decay_stretch)
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm_up) / max(horizon - warm_up, 1)))


def image_batches(images: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Places (size,) of the images of full batches without end, from a new random order in each epoch."""
    while True:
        for chosen in torch.randperm(images, generator=generator).split(size):
            if len(chosen) == size:
                yield chosen


def _labels(chosen: Tensor, settings: DenoiserSettings, generator: torch.Generator) -> Tensor | None:
    """What a conditional denoiser is told of these images: their digits (N,), some of them dropped."""
    if not isinstance(settings, ConditionalSettings):
        return None
    dropped = torch.rand(len(chosen), generator=generator) < settings.drop
    return digit_labels()[chosen].masked_fill(dropped, NULL_CLASS)


def _spread_timesteps(count: int, total: int, generator: torch.Generator) -> Tensor:
    """Timesteps (count,) int64, uniform over 0..total-1 but one per stratum, so that mean losses vary less."""
    offset = torch.rand(1, generator=generator, dtype=torch.float64)
    position = (torch.arange(count, dtype=torch.float64) + offset) / count
    return (position * total).long().clamp(max=total - 1)


def _follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged parameters a little towards the trained ones."""
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in model.parameters()], 1.0 - decay)
