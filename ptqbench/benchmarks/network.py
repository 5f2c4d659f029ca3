"""A network in plain torch with the kinds of units that denoisers have, as wide and as deep as one likes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS, SIZE, EMBEDDING = 3, 16, 64


class ResBlock(nn.Module):
    """Two convolutions with group norms and a time embedding, around a shortcut; on 8x8 maps."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, width), nn.GroupNorm(8, width)
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.time = nn.Linear(EMBEDDING, width)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """(B, C, H, W) from the same and an embedding (B, E)."""
        hidden = self.conv1(F.silu(self.norm1(x))) + self.time(emb)[:, :, None, None]
        return x + self.conv2(F.silu(self.norm2(hidden)))


class AttentionBlock(nn.Module):
    """Self-attention over the places of a map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.GroupNorm(8, width), nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) from the same."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = (part[:, None] for part in self.qkv(tokens).chunk(3, dim=-1))
        mixed = self.out(F.scaled_dot_product_attention(q, k, v)[:, 0])
        return x + mixed.transpose(1, 2).reshape(x.shape)


class Denoiser(nn.Module):
    """Convolutions down from and up to 16x16 maps around `blocks` residual blocks, one attention, and a long shortcut."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.first, self.down = nn.Conv2d(CHANNELS, width, 3, padding=1), nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(ResBlock(width) for _ in range(blocks))
        self.attention = AttentionBlock(width)
        self.up, self.last = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(2 * width, CHANNELS, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The prediction (B, C, H, W) for x (B, C, H, W) at timesteps t (B,)."""
        emb = torch.sin(t[:, None] / 1000.0 * torch.arange(1.0, EMBEDDING + 1, device=t.device))
        first = self.first(x)
        hidden = self.down(first)
        for block in self.blocks:
            hidden = block(hidden, emb)
        hidden = self.up(F.interpolate(self.attention(hidden), scale_factor=2.0))
        return self.last(torch.cat([F.silu(hidden), first], dim=1))
