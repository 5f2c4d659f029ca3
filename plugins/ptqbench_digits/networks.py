"""The digits denoisers: small networks of diffusers, and their noise schedule."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from ptqbench_digits.data import CLASSES, SIZE

UNET_CONFIG: dict[str, Any] = {
    "sample_size": SIZE,
    "in_channels": 1,
    "out_channels": 1,
    "layers_per_block": 1,
    "block_out_channels": [32, 64, 64],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "norm_num_groups": 8,
    "attention_head_dim": 16,
}

NULL_CLASS = CLASSES
"""What a conditional denoiser gets in place of a digit where it is to predict for any."""

CONDITIONAL_CONFIG = UNET_CONFIG | {"block_out_channels": [32, 48, 64], "num_class_embeds": NULL_CLASS + 1}

DIT_CONFIG: dict[str, Any] = {
    "_class_name": "DiTTransformer2DModel",
    "sample_size": SIZE,
    "patch_size": 4,
    "in_channels": 1,
    "out_channels": 1,
    "num_layers": 4,
    "num_attention_heads": 4,
    "attention_head_dim": 24,
    "num_embeds_ada_norm": CLASSES,  # and one for none in particular, as DiT has it
}

LATENT_CONFIG: dict[str, Any] = {
    "_class_name": "LatentDigits",
    "classes": NULL_CLASS + 1,
    "unet": {
        "sample_size": SIZE // 2,
        "in_channels": 2,
        "out_channels": 2,
        "layers_per_block": 1,
        "block_out_channels": [32, 64],
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "norm_num_groups": 8,
        "attention_head_dim": 2,  # heads: the name is a slip of diffusers
        "cross_attention_dim": 32,
    },
    "autoencoder": {
        "in_channels": 1,
        "out_channels": 1,
        "latent_channels": 2,
        "layers_per_block": 1,
        "block_out_channels": [16, 32],
        "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"],
        "norm_num_groups": 8,
    },
}

SCHEDULE: dict[str, Any] = {"kind": "linear", "timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02}


def build_network(config: dict[str, Any] | None = None) -> nn.Module:
    """A denoiser with fresh weights from the global random state; `config` defaults to `UNET_CONFIG`.

    Called with x, t and `class_labels`, it returns an object whose `sample` is the noise prediction. Raises `ValueError` for
    a class that is not known here.
    """
    arguments = dict(UNET_CONFIG if config is None else config)
    name = arguments.pop("_class_name", "UNet2DModel")
    if name == "LatentDigits":
        return LatentDigits(**arguments)
    if name not in ("UNet2DModel", "DiTTransformer2DModel"):
        raise ValueError(f"unknown network {name!r}")
    return _of_diffusers(name, arguments)


def _of_diffusers(name: str, arguments: dict[str, Any]) -> nn.Module:
    import diffusers  # slow to import: only when a network is needed

    made = getattr(diffusers, name)(**{key: tuple(v) if isinstance(v, list) else v for key, v in arguments.items()})
    return cast(nn.Module, made)  # diffusers' own annotations hide the base class


class LatentDigits(nn.Module):
    """Latent diffusion (arXiv:2112.10752): an autoencoder, and a UNet on its codes that attends to one token for the class."""

    def __init__(self, classes: int, unet: dict[str, Any], autoencoder: dict[str, Any]) -> None:
        super().__init__()
        self.unet = _of_diffusers("UNet2DConditionModel", unet)
        self.autoencoder = _of_diffusers("AutoencoderKL", autoencoder)
        self.embedder = nn.Embedding(classes, unet["cross_attention_dim"])
        self.shape = (unet["in_channels"], unet["sample_size"], unet["sample_size"])
        self.scale = float(autoencoder.get("scaling_factor", 1.0))

    def forward(self, x: Tensor, t: Tensor, class_labels: Tensor) -> Any:
        """The noise prediction, as `sample`, for latents x (N, c, h, w), t (N,) and the classes (N,)."""
        return self.unet(x, t, encoder_hidden_states=self.embedder(class_labels)[:, None])

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Latents (N, c, h, w) of unit variance, the means of the codes, of images (N, 1, 16, 16) in [-1, 1]."""
        found: Tensor = cast(Any, self.autoencoder).encode(images).latent_dist.mean * self.scale
        return found

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Images (N, 1, 16, 16) in [-1, 1] of latents (N, c, h, w)."""
        found: Tensor = cast(Any, self.autoencoder).decode(latents / self.scale).sample
        return found.clamp(-1.0, 1.0)


def alphas_cumprod(schedule: dict[str, Any] | None = None) -> Tensor:
    """The cumulative product of 1 - beta, (T,) float64, of a linear schedule; `schedule` defaults to `SCHEDULE`."""
    chosen = SCHEDULE if schedule is None else schedule
    if chosen["kind"] != "linear":
        raise ValueError(f"unknown noise schedule {chosen['kind']!r}: only 'linear' is known")
    betas = torch.linspace(chosen["beta_start"], chosen["beta_end"], chosen["timesteps"], dtype=torch.float64)
    return torch.cumprod(1.0 - betas, dim=0)
