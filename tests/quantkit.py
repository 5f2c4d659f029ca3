"""Shorthands for tests of the quantization core and of the plugins that build on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptqbench.plugin.component import NoOptions
from ptqbench.quant.attention import CHILD, AttentionSites, attach
from ptqbench.quant.grid import Layout, Levels, QuantSpec
from ptqbench.quant.layer import StepContext
from ptqbench.quant.plan import AttentionPlan, Plan, Probe
from ptqbench.quant.probe import probe_denoiser
from ptqbench.quant.uniform import UniformQuantizer
from ptqbench.roles.quantizer import Quantizer
from ptqbench.roles.range import RangeEstimator
from ptqbench_adaround import AdaRoundOptions
from ptqbench_adaround.quantizer import AdaRound
from ptqbench_lsq import LsqOptions
from ptqbench_lsq.quantizer import LearnedStep
from ptqbench_ranges import EmaOptions, MinMaxOptions, MseOptions
from ptqbench_ranges.extrema import MinMax, MovingAverage
from ptqbench_ranges.search import Search

PER_TENSOR, OUT_CHANNEL = Layout(None), Layout(0)
FOUR_BITS, EIGHT_BITS = QuantSpec(4), QuantSpec(8)


def estimator(name: str, levels: Levels, **options: Any) -> RangeEstimator:
    """A range estimator by name."""
    if name == "minmax":
        return MinMax(MinMaxOptions(**options), levels=levels)
    if name == "ema":
        return MovingAverage(EmaOptions(**options), levels=levels)
    return Search(MseOptions(**options), levels=levels)


def quantizer(
    name: str = "uniform",
    spec: QuantSpec = EIGHT_BITS,
    layout: Layout = PER_TENSOR,
    ranges: str = "minmax",
    **options: Any,
) -> Quantizer:
    """A quantizer by name, with a range estimator of default options."""
    kinds: dict[str, Any] = {
        "uniform": (UniformQuantizer, NoOptions),
        "adaround": (AdaRound, AdaRoundOptions),
        "lsq": (LearnedStep, LsqOptions),
    }
    kind, options_class = kinds[name]
    return kind(options_class(**options), spec=spec, layout=layout, estimator=lambda: estimator(ranges, spec.levels))


def frozen(x: Tensor, *args: Any, **options: Any) -> Any:
    """A quantizer whose range was found on x."""
    made = quantizer(*args, **options)
    made.observe(x)
    made.freeze()
    return made


@dataclass
class Factory:
    """Builds the quantizers of a method (a `QuantizerFactory`)."""

    weights: str = "uniform"
    activations: str = "uniform"
    ranges: str = "minmax"
    made: list[Quantizer] = field(default_factory=list)

    def weight(self, spec: QuantSpec, layout: Layout) -> Quantizer:
        return self._keep(quantizer(self.weights, spec, layout, self.ranges))

    def activation(self, spec: QuantSpec, layout: Layout) -> Quantizer:
        return self._keep(quantizer(self.activations, spec, layout, self.ranges))

    def _keep(self, made: Quantizer) -> Quantizer:
        self.made.append(made)
        return made


class Attend(nn.Module):
    """An attention and nothing else: torch's function with the arguments of the call."""

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return F.scaled_dot_product_attention(*args, **kwargs)


def attention_plan(bits: int | None = 4, steps: int = 1, **specs: QuantSpec | None) -> AttentionPlan:
    """All four sites at these bits, some of them replaced; None is floating point."""
    plan = AttentionPlan.uniform("attention", QuantSpec(bits, steps=steps) if bits else None)
    return plan.change("a test", **specs)


def attached(plan: AttentionPlan, steps: int = 1, activations: str = "uniform", ranges: str = "minmax") -> Attend:
    """An attention with sites; `sites_of` gives them."""
    module = Attend()
    attach(module, AttentionSites(plan, Factory(activations=activations, ranges=ranges), StepContext(steps)))
    return module


def sites_of(module: nn.Module) -> AttentionSites:
    """The sites that were attached to an attention module."""
    found = module.get_submodule(CHILD)
    assert isinstance(found, AttentionSites)
    return found


def ranged_attention(module: nn.Module, *args: Any, **kwargs: Any) -> AttentionSites:
    """The sites of an attention after their ranges were found on one call, quantizing."""
    sites = sites_of(module)
    sites.observe_activations = True
    module(*args, **kwargs)
    sites.observe_activations = False
    for quantizer in sites.quantizers.values():
        quantizer.freeze()
    sites.quantize_activations = True
    return sites


class SkipNet(nn.Module):
    """A small network with what matters to a probe: input convolution, skip concatenation, tokens, last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(6, 3, 3, padding=1)
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.down = nn.Conv2d(4, 8, 3, padding=1, stride=2)
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.shortcut = nn.Conv2d(12, 6, 1)
        self.tokens = nn.Linear(6, 6)
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        deep = self.up(torch.relu(self.down(torch.relu(first))))
        joined = self.shortcut(torch.cat([deep, first], dim=1))
        mixed = self.tokens(joined.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(joined.shape)
        return self.last(torch.relu(mixed))


def skip_net(seed: int = 0) -> tuple[SkipNet, Tensor, Probe]:
    """The small network, an input (2, 3, 8, 8), and its probe."""
    torch.manual_seed(seed)
    net, x = SkipNet().eval(), torch.randn(2, 3, 8, 8)
    return net, x, probe_denoiser(net, lambda: net(x), x)


def plan_for(probe: Probe, weight_bits: int | None = 4, act_bits: int | None = 8, steps: int = 1) -> Plan:
    """Weights per channel and activations per tensor; None is full precision."""
    weight = QuantSpec(weight_bits, "channel") if weight_bits else None
    activation = QuantSpec(act_bits, steps=steps) if act_bits else None
    return Plan.uniform(probe, weight, activation)


def within(inner: str, outers: Sequence[str]) -> bool:
    """Whether a module lies inside one of others."""
    return any(inner.startswith(f"{outer}.") for outer in outers)
