"""Small networks that name their parts as the original UNets do: DDPM's for CIFAR-10, and that of latent diffusion."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptqbench.quant.plan import Probe
from ptqbench.quant.probe import probe_denoiser

ProbedUNet = tuple[nn.Module, Tensor, Probe]
WIDTH = 8
TIMESTEPS = torch.tensor([7, 700])


def code(t: Tensor) -> Tensor:
    """Sine and cosine of the timestep (B, WIDTH)."""
    angle = t[:, None] * torch.exp(-math.log(1e4) / 4 * torch.arange(4.0))
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class ResnetBlock(nn.Module):
    """A residual block of the DDPM UNet."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)
        self.temb_proj = nn.Linear(4 * WIDTH, out)
        self.nin_shortcut = nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        h = self.conv1(F.silu(x)) + self.temb_proj(F.silu(temb))[:, :, None, None]
        return self.nin_shortcut(x) + self.conv2(F.silu(h))


class DDPM(nn.Module):
    """The time layers lie in a container that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.temb = nn.Module()
        self.temb.dense = nn.ModuleList([nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, 4 * WIDTH)])
        self.conv_in, self.conv_out = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.mid = nn.ModuleList([ResnetBlock(8, 12), ResnetBlock(12, 8)])

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        temb = self.temb.dense[1](F.silu(self.temb.dense[0](code(t))))
        h = self.conv_in(x)
        for block in self.mid:
            h = block(h, temb)
        return self.conv_out(h)


class ResBlock(nn.Module):
    """A residual block of the latent-diffusion UNet."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(4 * WIDTH, out))
        self.out_layers = nn.Sequential(nn.SiLU(), nn.Conv2d(out, out, 3, padding=1))
        self.skip_connection = nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.skip_connection(x) + self.out_layers(self.in_layers(x) + self.emb_layers(emb)[:, :, None, None])


class LatentUNet(nn.Module):
    """The time MLP is one sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.time_embed = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.SiLU(), nn.Linear(4 * WIDTH, 4 * WIDTH))
        self.input_blocks = nn.ModuleList([nn.Conv2d(3, 8, 3, padding=1), ResBlock(8, 12)])
        self.output_blocks = nn.ModuleList([ResBlock(12, 8)])
        self.out = nn.Sequential(nn.SiLU(), nn.Conv2d(8, 3, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        emb = self.time_embed(code(t))
        h = self.input_blocks[1](self.input_blocks[0](x), emb)
        return self.out(self.output_blocks[0](h, emb))


def _probed(kind: type[nn.Module]) -> ProbedUNet:
    torch.manual_seed(0)
    net, x = kind().eval(), torch.randn(2, 3, 8, 8)
    return net, x, probe_denoiser(net, lambda: net(x, TIMESTEPS), x)


@pytest.fixture(scope="session")
def ddpm() -> ProbedUNet:
    """DDPM's names, an input (2, 3, 8, 8), and the probe."""
    return _probed(DDPM)


@pytest.fixture(scope="session")
def latent_unet() -> ProbedUNet:
    """Latent diffusion's names, an input (2, 3, 8, 8), and the probe."""
    return _probed(LatentUNet)
