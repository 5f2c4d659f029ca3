"""The small network of TDQ: from the position of every sampling step to a factor for its step size."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn


def frequency_code(steps: int, frequencies: int) -> Tensor:
    """sin(2^j pi p) and cos(2^j pi p), j < frequencies, of the positions p = k / (steps - 1): (steps, 2 frequencies)."""
    position = torch.linspace(0, 1, steps, dtype=torch.float64)[:, None]
    angle = math.pi * position * 2.0 ** torch.arange(frequencies)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class StepFactors(nn.Module):
    """exp(MLP(code)), (steps, rows): exactly 1 before anything is learned, since the last layer starts at zero."""

    code: Tensor

    def __init__(self, steps: int, rows: int, *, frequencies: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.register_buffer("code", frequency_code(steps, frequencies).float(), persistent=False)
        widths = [2 * frequencies, *[hidden] * layers, rows]
        # A generator of its own: building a network must not shift anybody's stream.
        rng = torch.Generator().manual_seed(0)
        chain: list[nn.Module] = []
        for i, (inside, outside) in enumerate(pairwise(widths)):
            layer = nn.utils.skip_init(nn.Linear, inside, outside)
            spread = 0.0 if i == layers else 1 / math.sqrt(inside)
            for parameter in (layer.weight, layer.bias):
                nn.init.uniform_(parameter, -spread, spread, generator=rng)
            chain += [layer, nn.SiLU()]
        self.net = nn.Sequential(*chain[:-1])

    def forward(self) -> Tensor:
        """The factors of all steps at once (steps, rows), positive; twice differentiable in the parameters."""
        factors: Tensor = self.net(self.code).exp()
        return factors


def parameter_names(layers: int) -> tuple[str, ...]:
    """The names of the network's parameters, known before it is built."""
    return tuple(f"net.{2 * i}.{kind}" for i in range(layers + 1) for kind in ("weight", "bias"))
