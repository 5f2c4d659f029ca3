"""Training of the autoencoder of the latent digits."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from ptqbench_digits.data import digit_images, to_float
from ptqbench_digits.diffusion import LatentSettings, Report, fresh, image_batches
from ptqbench_digits.networks import LatentDigits


def train_autoencoder(settings: LatentSettings, report: Report) -> LatentDigits:
    """The latent network with a trained and frozen autoencoder, whose scale gives latents unit variance; the rest is fresh.

    The loss is the squared error of reconstructed pixels and `divergence` times the Kullback-Leibler divergence of the code's
    distribution from a standard normal one, per pixel: small enough not to blur (arXiv:2112.10752, section 3.1).
    """
    network = cast(LatentDigits, fresh(settings))
    autoencoder = network.autoencoder
    generator = torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.AdamW(autoencoder.parameters(), lr=settings.autoencoder_rate)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.autoencoder_rate, total_steps=settings.autoencoder_steps + 1
    )
    images = to_float(digit_images())
    batches = image_batches(len(images), settings.batch, generator)
    for step in range(1, settings.autoencoder_steps + 1):
        loss = _loss(autoencoder, images[next(batches)], settings.divergence, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(autoencoder.parameters(), settings.clip)
        optimizer.step()
        scheduler.step()
        report(step, float(loss.detach()), autoencoder)
    autoencoder.eval().requires_grad_(False)
    network.scale = round(1.0 / float(network.encode(images).std()), 6)
    return network


def _loss(autoencoder: nn.Module, images: Tensor, divergence: float, generator: torch.Generator) -> Tensor:
    coder = cast(Any, autoencoder)
    posterior = coder.encode(images).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=generator)
    decoded = coder.decode(posterior.mean + posterior.std * noise).sample
    return (decoded - images).square().mean() + divergence * posterior.kl().mean() / images[0].numel()


@torch.no_grad()
def reconstruction_error(network: LatentDigits) -> float:
    """Mean squared error of all images, in [-1, 1], after encoding and decoding."""
    images = to_float(digit_images())
    return float((network.decode(network.encode(images)) - images).square().mean())
