"""Two denoisers with random weights: one of seven layers, and a UNet of diffusers."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHAPE = (1, 8, 8)


class ResBlock(nn.Module):
    """A residual block that reads a time embedding."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.GroupNorm(4, channels), nn.Conv2d(channels, out, 3, padding=1)
        self.time, self.shortcut = nn.Linear(8, out), nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        out: Tensor = self.shortcut(x) + self.conv(F.silu(self.norm(x))) + self.time(emb)[:, :, None, None]
        return out


class AttentionBlock(nn.Module):
    """Self-attention over pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x.flatten(2).transpose(1, 2))[:, None].chunk(3, dim=-1)
        mixed = self.out(F.scaled_dot_product_attention(q, k, v)[:, 0])
        return x + mixed.transpose(1, 2).reshape(x.shape)


class PlainNet(nn.Module):
    """What a UNet has, in seven layers: blocks, attention, and unless it is left out a skip concatenation."""

    def __init__(self, skip: bool) -> None:
        super().__init__()
        self.skip = skip
        self.first, self.last = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 1, 3, padding=1)
        self.down, self.attention, self.up = ResBlock(8, 8), AttentionBlock(8), ResBlock(16 if skip else 8, 8)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        emb = torch.sin(t[:, None] / 1000.0 * torch.arange(1.0, 9.0))
        first = self.first(x)
        deep = self.attention(self.down(first, emb))
        out: Tensor = self.last(F.silu(self.up(torch.cat([deep, first], dim=1) if self.skip else deep, emb)))
        return out


def build_plain(skip: bool = True) -> nn.Module:
    """The plain network with seeded weights."""
    torch.manual_seed(0)
    return PlainNet(skip)


def build_unet(classes: int = 0) -> nn.Module:
    """A UNet of diffusers with residual blocks, attention, down- and upsampling, and skip concatenations; class embeddings for
    `classes` and the null class, if there are any."""
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    found: Any = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        add_attention=False,
        norm_num_groups=4,
        attention_head_dim=4,
        num_class_embeds=classes + 1 if classes else None,
    )
    return found


def call_plain(net: nn.Module, x: Tensor, t: Tensor) -> Tensor:
    """The plain network's prediction."""
    out: Tensor = net(x, t)
    return out


def call_unet(net: nn.Module, x: Tensor, t: Tensor, class_labels: Tensor | None = None) -> Tensor:
    """The UNet's."""
    out: Tensor = net(x, t, class_labels=class_labels).sample
    return out
