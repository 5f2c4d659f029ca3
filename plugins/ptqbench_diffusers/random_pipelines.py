"""Small pipelines with random weights, of the architectures that the field compares on: to go through a recipe in minutes.

Their UNets have two levels, on which everything occurs that the deeper ones have.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from ptqbench_diffusers.layout import CONFIG, EMBEDDER, WEIGHTS
from ptqbench_diffusers.random_parts import autoencoder, diffusers_package, unet
from ptqbench_diffusers.random_text import TOLD

CLASSES = 10
LDM_NOISE = {
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "steps_offset": 1,
    "beta_start": 0.0015,
    "beta_end": 0.0195,
}


def ddpm(folder: Path) -> None:
    """As google/ddpm-cifar10-32, much narrower: pixels, attention on the second level."""
    d = diffusers_package()
    network = unet(16, 3, (16, 32), (False, True))
    d.DDPMPipeline(network, d.DDPMScheduler(clip_sample=False)).save_pretrained(folder)


def ddpm_cifar10(folder: Path) -> None:
    """As google/ddpm-cifar10-32 at its full size: 35.7 M parameters."""
    d = diffusers_package()
    network = d.UNet2DModel(
        sample_size=32,
        block_out_channels=(128, 256, 256, 256),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=None,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
    )
    d.DDPMPipeline(network, d.DDPMScheduler(clip_sample=False)).save_pretrained(folder)


def ldm(folder: Path) -> None:
    """As CompVis' unconditional latent diffusion (LDM-4): VQ latents, attention on all levels but the first."""
    d = diffusers_package()
    network = unet(16, 3, (16, 48), (False, True))
    d.LDMPipeline(autoencoder(3, quantized=True), network, d.DDIMScheduler(**LDM_NOISE)).save_pretrained(folder)


def ldm_class(folder: Path) -> None:
    """As CompVis' ImageNet model (cin256-v2): the same with spatial transformers, which attend to an embedded class."""
    d = diffusers_package()
    width = 32
    network = unet(16, 3, (16, 48), (False, True), cross_attention_dim=width)
    d.LDMPipeline(autoencoder(3, quantized=True), network, d.DDIMScheduler(**LDM_NOISE)).save_pretrained(folder)
    save_embedder(folder, nn.Embedding(CLASSES + 1, width).weight.detach(), null=CLASSES)


def dit(folder: Path) -> None:
    """As facebook/DiT-XL-2-256: patches of 2, adaLN-zero blocks, a learned variance."""
    d = diffusers_package()
    network = d.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=8,
        num_layers=3,
        sample_size=8,
        num_embeds_ada_norm=1000,
    )
    d.DiTPipeline(network, autoencoder(4, quantized=False), d.DDIMScheduler(clip_sample=False)).save_pretrained(folder)


def save_embedder(folder: Path, table: torch.Tensor, null: int) -> None:
    """The class embedder (classes, D) of a latent diffusion, as this plugin reads it from a pipeline's folder."""
    target = folder / EMBEDDER
    target.mkdir(parents=True)
    config = {"_class_name": "ClassEmbedder", "n_classes": len(table), "embed_dim": table.shape[1], "null_class": null}
    (target / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file({"embedding.weight": table.contiguous()}, target / f"{WEIGHTS}.safetensors")


BUILDERS: dict[str, Callable[[Path], None]] = {
    "ddpm": ddpm,
    "ddpm-cifar10": ddpm_cifar10,
    "ldm": ldm,
    "ldm-class": ldm_class,
    "dit": dit,
    **TOLD,
}


def save_random(kind: str, folder: Path, seed: int) -> Path:
    """Build the pipeline of a kind with the seed's weights, and save it in `folder` as diffusers does."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BUILDERS[kind](folder)
    return folder
