"""A method on the benchmark's network: everything that a fit of one of its units needs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptqbench.boundary.build import build
from ptqbench.fitting.fit import UnitFit
from ptqbench.fitting.inner import UnitProblem
from ptqbench.fitting.method import MethodFactory
from ptqbench.fitting.quantize import MethodQuantizer
from ptqbench.fitting.subject import Subject
from ptqbench.fitting.units import UnitFitter
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import UnitPlan
from ptqbench.quant.probe import probe_denoiser
from ptqbench.recipe.experiment import Method
from ptqbench.recipe.load import load_experiment
from ptqbench.roles.reconstruction import Course, Phase, Rate
from ptqbench.sampling.calibrate import CalibrationSet
from ptqbench.sampling.rng import stream
from ptqbench.stage.cache import Cache, Costs

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


STEPS = 20
RATE = 0.02
GACQ_ITERATIONS = 16
"""Iterations of which one is an update of all weights. By default a fit has four, whatever its length."""
RECIPE: dict[str, Any] = {
    "recipe": {"name": "bench", "baseline": "equal"},
    "model": {"use": "digits"},
    "sampling": {"steps": STEPS, "images": 64, "seed": 0},
    "calibration": {"trajectories": 64, "samples": 256},
    "evaluation": {"metrics": ["eps-error"]},
    "methods": {
        # No warm-up: each iteration has the regulariser, as four of five have in a fit.
        "equal": {"method": "q-diffusion", "weights": {"quantizer": {"use": "adaround", "warmup": 0.0}}, "passes": []},
        "gacq": {"extends": "equal", "weighter": {"use": "gacq", "every": GACQ_ITERATIONS}},
    },
    "sweep": {"bits": ["W4A32", "W4A8"], "seeds": [0]},
}
"""The methods that are timed; the model is not loaded, the benchmark's own network takes its place."""


@dataclass
class Bench:
    """A method on a network of this width with this many residual blocks, and `samples` random calibration samples."""

    device: torch.device
    method: str = "equal"
    bits: str = "W4A32"
    width: int = 64
    blocks: int = 2
    samples: int = 256

    @cached_property
    def chosen(self) -> Method:
        cells = load_experiment(RECIPE).cells
        return next(c.method for c in cells if c.method and (c.name, c.bits) == (self.method, self.bits))

    @cached_property
    def denoiser(self) -> Denoiser:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return Denoiser(self.width, self.blocks).to(self.device).requires_grad_(False).eval()

    @cached_property
    def calibration(self) -> CalibrationSet:
        n = self.samples
        step = torch.arange(n) % STEPS
        none = torch.zeros(n, dtype=torch.int64)
        return CalibrationSet(self.x(n), 1000 * (STEPS - 1 - step) // STEPS, step, torch.arange(n), none)

    def x(self, count: int) -> Tensor:
        """Noise as inputs of the network."""
        return torch.randn(count, CHANNELS, SIZE, SIZE, generator=stream(0, "bench"))

    @cached_property
    def quantizer(self) -> MethodQuantizer:
        x, t = self.x(2).to(self.device), torch.zeros(2, device=self.device)
        probe = probe_denoiser(self.denoiser, lambda: self.denoiser(x, t), x)
        subject = Subject(
            denoiser=self.denoiser,
            probe=probe,
            timesteps=1000 * torch.arange(STEPS).flip(0) // STEPS,
            calibration=lambda: self.calibration,
            calibration_key="",
            predict=self._predict,
            denoising_error=lambda: torch.ones(STEPS),
            batch=64,
            device=self.device,
            cache=Cache(Path()),
            key=[],
        )
        return MethodQuantizer(subject, self.chosen, 0, Costs(), lambda *_: None)

    def _predict(self, calibration: CalibrationSet, q: QuantizedDenoiser | None, index: Tensor) -> Tensor:
        if q is not None:
            q.context.step = calibration.step[index].to(self.device)
        network = self.denoiser if q is None else q.module
        return network(calibration.x[index].to(self.device), calibration.t[index].to(self.device))

    @cached_property
    def q(self) -> QuantizedDenoiser:
        """The quantized copy before anything of it is known."""
        factory = MethodFactory(self.chosen.weights, self.chosen.activations)
        return QuantizedDenoiser(self.denoiser, self.quantizer.plan, factory, STEPS)

    @property
    def units(self) -> list[UnitPlan]:
        return self.quantizer.units

    @property
    def phase(self) -> Phase:
        return self.quantizer.reconstruction.phases[0]

    def fitter(self) -> UnitFitter:
        """One of the first phase, which has not recorded anything."""
        return self.quantizer.fitter(self.q, self.phase, self.quantizer.subject.cache.entry("bench", "fit"))

    def problem(self, name: str) -> UnitProblem:
        """A unit that has begun to learn."""
        fitter = self.fitter()
        position, unit = next((i, unit) for i, unit in enumerate(self.units) if unit.name == name)
        data = fitter.capture.data(unit, position)
        return fitter.problem(unit, position, fitter.begin(unit), data)

    def fit(self, problem: UnitProblem, batch: int, iterations: int) -> UnitFit:
        """A fit of the unit that is ready to run."""
        course = Course(iterations, batch, {"rounding": Rate(RATE)})
        streams = stream(0, "mini-batches"), stream(0, "weighter")
        made = UnitFit("unit", self.phase, course, problem, build(self.chosen.weighter), *streams)
        made.begin()
        return made
