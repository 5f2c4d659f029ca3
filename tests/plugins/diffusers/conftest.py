"""Small random pipelines, saved as diffusers saves them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, LDMPipeline, UNet2DModel, VQModel

from ptqbench_diffusers import DiffusersOptions
from ptqbench_diffusers.source import DiffusersSource

SIZE = 8
UNET: dict[str, Any] = {
    "sample_size": SIZE,
    "layers_per_block": 1,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 4,
    "attention_head_dim": 8,
}
# The settings under which diffusers' own sampler takes the same steps as "uniform": no clipping, timesteps from 1.
PLAIN: dict[str, Any] = {"clip_sample": False, "steps_offset": 1}

Make = Callable[..., Path]


def seeded_unet(**changes: Any) -> UNet2DModel:
    torch.manual_seed(0)
    return UNet2DModel(**{**UNET, **changes})


def save_pixel(folder: Path, kind: str = "ddpm", scheduler: dict[str, Any] | None = None, **unet: Any) -> Path:
    """A DDPMPipeline or (kind "ddim") DDIMPipeline in `folder`; `unet` changes the network."""
    net = seeded_unet(**unet)
    chosen = PLAIN if scheduler is None else scheduler
    if kind == "ddim":
        DDIMPipeline(net, DDIMScheduler(**chosen)).save_pretrained(folder)
    else:
        known = {key: value for key, value in chosen.items() if key != "steps_offset"}
        DDPMPipeline(net, DDPMScheduler(**known)).save_pretrained(folder)
    return folder


def save_latent(folder: Path, **changes: Any) -> Path:
    """An LDMPipeline: latents 3x8x8, images 3x16x16."""
    torch.manual_seed(1)
    levels = {
        "block_out_channels": (8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
    }
    vqvae = VQModel(**{**levels, "norm_num_groups": 4, "num_vq_embeddings": 16, "scaling_factor": 0.5, **changes})
    with torch.no_grad():
        vqvae.quantize.embedding.weight.normal_()
    scheduler = DDIMScheduler(beta_start=0.0015, beta_end=0.0195, beta_schedule="scaled_linear", **PLAIN)
    LDMPipeline(vqvae, seeded_unet(), scheduler).save_pretrained(folder)
    return folder


def edit_json(path: Path, **changes: Any) -> None:
    """Set keys of a JSON file; None removes a key."""
    data = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))


@pytest.fixture
def pixel(tmp_path: Path) -> Make:
    return lambda *args, **kwargs: save_pixel(tmp_path / "pipeline", *args, **kwargs)


@pytest.fixture
def latent(tmp_path: Path) -> Make:
    return lambda **kwargs: save_latent(tmp_path / "pipeline", **kwargs)


@pytest.fixture
def source() -> Callable[..., DiffusersSource]:
    return lambda path, **options: DiffusersSource(DiffusersOptions(path=str(path), **options))


@pytest.fixture
def edit() -> Callable[..., None]:
    return edit_json
