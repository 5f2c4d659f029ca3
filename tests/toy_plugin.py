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
from ptqbench.testing.networks import SHAPE, build_plain, build_unet, call_plain, call_unet


class ToyOptions(Options):
    """Options of the model."""

    network: Literal["unet", "plain", "straight"] = Field(
        "unet", description="diffusers' UNet, or a network without diffusers, with or without a skip connection"
    )
    classes: int = Field(0, ge=0, description="classes that the UNet is told, beside a null class; 0 for none")


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
        evaluate: Callable[..., Tensor] = call_plain if plain else call_unet
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
        if "TOY_STOP" in os.environ:
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

    requires = Requirements(validation=0.25, groups=2)


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
