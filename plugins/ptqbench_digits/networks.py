"""The digits denoisers: small diffusers UNet2DModels, and their noise schedule."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

UNET_CONFIG: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 1,
    "out_channels": 1,
    "layers_per_block": 1,
    "block_out_channels": [32, 64, 64],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "norm_num_groups": 8,
    "attention_head_dim": 16,
}

NULL_CLASS = 10
"""What the conditional denoiser gets in place of a digit where it is to predict for any."""

CONDITIONAL_CONFIG = UNET_CONFIG | {"block_out_channels": [32, 48, 64], "num_class_embeds": NULL_CLASS + 1}

SCHEDULE: dict[str, Any] = {"kind": "linear", "timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02}


def build_unet(config: dict[str, Any] | None = None) -> nn.Module:
    """A UNet2DModel with fresh weights from the global random state; `config` defaults to `UNET_CONFIG`."""
    from diffusers import UNet2DModel  # slow to import: only when a network is needed

    arguments = dict(UNET_CONFIG if config is None else config)
    network = UNet2DModel(**{key: tuple(v) if isinstance(v, list) else v for key, v in arguments.items()})
    return cast(nn.Module, network)  # diffusers' own annotations hide the base class


def alphas_cumprod(schedule: dict[str, Any] | None = None) -> Tensor:
    """The cumulative product of 1 - beta, (T,) float64, of a linear schedule; `schedule` defaults to `SCHEDULE`."""
    chosen = SCHEDULE if schedule is None else schedule
    if chosen["kind"] != "linear":
        raise ValueError(f"unknown noise schedule {chosen['kind']!r}: only 'linear' is known")
    betas = torch.linspace(chosen["beta_start"], chosen["beta_end"], chosen["timesteps"], dtype=torch.float64)
    return torch.cumprod(1.0 - betas, dim=0)
