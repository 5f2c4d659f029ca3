"""A single-file plugin for tests of the engine: a tiny random diffusion model, features, weighters that misbehave, and a
quantizer with trainables of a kind of its own, beside a reconstruction that learns them.

`TOY_STOP="unit|sampling:kill|wait:MARKER"` in the environment stops the process once, at a fixed point in the middle of
a unit's reconstruction or of sampling; where the file MARKER exists nothing happens.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ptqbench import Component, Options, hookimpl
from ptqbench.errors import CellFailedError
from ptqbench.quant.uniform import UniformQuantizer
from ptqbench.roles.features import FeatureExtractor
from ptqbench.roles.model import COND, UNCOND, Conditions, DiffusionModel, ModelSource
from ptqbench.roles.quantizer import ParamGroup
from ptqbench.roles.reconstruction import Course, Phase, Rate, Reconstruction
from ptqbench.roles.weighter import Requirements, SampleWeighter

SHAPE = (1, 8, 8)


class ToyOptions(Options):
    """Options of the model."""

    network: Literal["unet", "plain", "straight"] = Field(
        "unet", description="diffusers' UNet, or a network without diffusers, with or without a skip connection"
    )
    classes: int = Field(0, ge=0, description="classes that the UNet is told, beside a null class; 0 for none")


def build_unet(classes: int = 0) -> nn.Module:
    """A UNet of diffusers with residual blocks, attention, down- and upsampling, and skip concatenations; class embeddings for
    `classes` and the null class, if there are any."""
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    return UNet2DModel(
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


class ResBlock(nn.Module):
    """A residual block that reads a time embedding."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.GroupNorm(4, channels), nn.Conv2d(channels, out, 3, padding=1)
        self.time, self.shortcut = nn.Linear(8, out), nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.shortcut(x) + self.conv(F.silu(self.norm(x))) + self.time(emb)[:, :, None, None]


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
        return self.last(F.silu(self.up(torch.cat([deep, first], dim=1) if self.skip else deep, emb)))


def build_plain(skip: bool) -> nn.Module:
    """The plain network with seeded weights."""
    torch.manual_seed(0)
    return PlainNet(skip)


class ToySource(ModelSource):
    """Linear betas, random weights."""

    options: ToyOptions

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.options.network} {self.options.classes}".encode()).hexdigest()

    def load(self, device: torch.device) -> DiffusionModel:
        plain, skip = self.options.network != "unet", self.options.network == "plain"
        with torch.random.fork_rng():
            classes = self.options.classes
            net = (build_plain(skip) if plain else build_unet(classes)).eval().requires_grad_(False)
        evaluate: Callable[..., Tensor] = _call_plain if plain else _call_unet
        alphas = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
        sampling = 0

        def call(denoiser: nn.Module, x: Tensor, t: Tensor, cond: Conditions) -> Tensor:
            nonlocal sampling
            if denoiser is not net and torch.is_inference_mode_enabled():
                sampling += 1
                if sampling == 8:
                    stop_once("sampling")
            return evaluate(denoiser, x, t, **cond)

        made = DiffusionModel(net.to(device), call, alphas, SHAPE, lambda x: x.clamp(-1, 1))
        if classes:
            made.branches, made.conditions = (COND, UNCOND), partial(_labels, classes)
        return made

    def reference_images(self) -> Tensor:
        return torch.randint(0, 256, (32, *SHAPE), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def _labels(classes: int, ids: Sequence[int], branch: str) -> Conditions:
    """Image i shows class i modulo `classes`."""
    labels = [i % classes if branch == COND else classes for i in ids]
    return {"class_labels": torch.tensor(labels, dtype=torch.int64)}


def _call_unet(net: nn.Module, x: Tensor, t: Tensor, class_labels: Tensor | None = None) -> Tensor:
    return net(x, t, class_labels=class_labels).sample


def _call_plain(net: nn.Module, x: Tensor, t: Tensor) -> Tensor:
    return net(x, t)


def stop_once(place: str) -> None:
    """End this process group, or wait to be ended, if TOY_STOP says so and its marker is absent."""
    where, _, rest = os.environ.get("TOY_STOP", "").partition(":")
    how, _, name = rest.partition(":")
    marker = Path(name)
    if where != place or marker.exists():
        return
    marker.touch()
    if how == "kill":
        os.killpg(os.getpgrp(), signal.SIGKILL)
    time.sleep(120)


class ToyFeatures(FeatureExtractor):
    """A fixed random projection of the pixels to four numbers, and these as probabilities."""

    def fingerprint(self) -> str:
        return "toy"

    def prepare(self, device: torch.device) -> None:
        self.matrix = torch.randn(64, 4, generator=torch.Generator().manual_seed(2)) / 8

    def outputs(self) -> dict[str, int]:
        return {"pool": 4, "probabilities": 4}

    def extract(self, images: Tensor) -> dict[str, Tensor]:
        pool = images.flatten(1).float() / 255 @ self.matrix
        return {"pool": pool, "probabilities": pool.softmax(dim=1)}


class Ones(SampleWeighter):
    """Weights of one; may be stopped in the middle of the second unit."""

    units: ClassVar[set[str]] = set()
    calls = 0

    def begin_unit(self, unit: str, phase: str, problem: object, rng: torch.Generator) -> None:
        # By name: the boundary begins a first unit twice, to see whether two instances agree.
        self.units.add(f"{phase}/{unit}")
        self.calls = 0

    def weights(self, batch, problem):
        self.calls += 1
        if len(self.units) == 2 and self.calls == 3:
            stop_once("unit")
        return torch.ones(len(batch))


class ValidatedOnes(Ones):
    """Weights of one beside a validation split such as GACQ's default."""

    requires = Requirements(validation=0.25, groups=5)


class Refusing(SampleWeighter):
    """Gives up."""

    def weights(self, batch, problem):
        raise CellFailedError("the toy weighter refuses", "ask another")


class Broken(Ones):
    """Has a bug."""

    def weights(self, batch, problem):
        return 1 / 0


class LearnedZero(UniformQuantizer):
    """A grid whose zero point moves while a unit is fitted, by the gradient of what is clipped."""

    @classmethod
    def offers(cls, options):
        return frozenset({"zero-point"})

    def learnable(self):
        return () if self.spec.nonnegative else (ParamGroup(("zero_point",), "zero-point"),)

    def begin_learning(self, x):
        if not self.learning:
            zero = self.zero_point
            del self.zero_point
            self.zero_point = nn.Parameter(zero.clone())
        super().begin_learning(x)

    def harden(self):
        if self.learning:
            zero = self.zero_point.detach().round().clamp(self.spec.levels.low, self.spec.levels.high)
            del self.zero_point
            self.register_buffer("zero_point", zero)
        super().harden()

    def restore(self, state):
        self.harden()
        super().restore(state)


class ZerosOptions(Options):
    """Options of the reconstruction."""

    rate: float = Field(1.0, ge=0, description="Adam's learning rate for zero points")


class LearnZeros(Reconstruction):
    """Rounding first, then zero points."""

    phases = (
        Phase("rounding", frozenset({"rounding"}), activations=False, inputs="quantized"),
        Phase("zeros", frozenset({"zero-point"}), activations=True, inputs="full-precision"),
    )

    def course(self, phase):
        rates = {"rounding": Rate(0.05)} if phase.name == "rounding" else {"zero-point": Rate(self.options.rate)}
        return Course(3, 8, rates)


@hookimpl
def ptqbench_components():
    return [
        Component("model", "toy", "a tiny random model", ToySource, ToyOptions),
        Component("features", "toy", "a random projection", ToyFeatures),
        Component("weighter", "ones", "weights of one", Ones),
        Component("weighter", "validated-ones", "weights of one, and a validation split", ValidatedOnes),
        Component("weighter", "refusing", "fails", Refusing),
        Component("weighter", "broken", "has a bug", Broken),
        Component("activation-quantizer", "zeros", "zero points learn", LearnedZero, traits=frozenset({"learned"})),
        Component(
            "reconstruction",
            "learn-zeros",
            "rounding, then zero points",
            LearnZeros,
            ZerosOptions,
            defaults={"partitioner": "blocks"},
        ),
    ]
