"""A module with soft rounding, in double precision, for derivatives that are held against finite differences."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Rounded(nn.Module):
    """A convolution with soft rounding variables and a step size, a normalisation, a non-linearity."""

    def __init__(self) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.register_buffer("w", torch.randn(4, 2, 3, 3, generator=g, dtype=torch.float64))
        self.alpha = nn.Parameter(torch.randn(4, 2, 3, 3, generator=g, dtype=torch.float64))
        self.scale = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        self.norm = nn.GroupNorm(2, 4).double().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        h = (torch.sigmoid(self.alpha) * 1.2 - 0.1).clamp(0, 1)
        y = nn.functional.conv2d(x, self.scale * (torch.floor(self.w / 0.3) + h), padding=1)
        return nn.functional.silu(self.norm(y))
