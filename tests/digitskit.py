"""Units of the digits model on its own trajectories, at W4A32: what fits are about, small enough for tests."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from enginekit import cell_of, context
from torch import Tensor

from ptqbench.fitting.fit import UnitFit
from ptqbench.fitting.inner import UnitProblem
from ptqbench.fitting.method import MethodFactory
from ptqbench.fitting.quantize import MethodQuantizer
from ptqbench.fitting.unit_data import UnitData
from ptqbench.fitting.units import UnitFitter
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import UnitPlan
from ptqbench.recipe.load import load_experiment
from ptqbench.results.fits import FitQuality
from ptqbench.roles.reconstruction import Course, Rate
from ptqbench.roles.weighter import SampleWeighter
from ptqbench.running.cell import cell_quantizer
from ptqbench.sampling.rng import stream
from ptqbench.stage.cache import Costs

STEPS = 10


def recipe(samples: int, iterations: int, rate: float) -> dict[str, Any]:
    """Two methods that differ in their units; both hold out an eighth of the samples, and all weights stay equal."""
    return {
        "recipe": {"name": "units", "baseline": "blocks"},
        "model": {"use": "digits"},
        "sampling": {"steps": STEPS, "images": 8, "seed": 0},
        "calibration": {"trajectories": 64, "samples": samples},
        "evaluation": {"metrics": ["eps-error"], "probes": 4},
        "methods": {
            "blocks": {
                "method": "q-diffusion",
                "sampler": {"points": STEPS},
                "reconstruction": {"iterations": iterations, "rounding_rate": rate, "batch": 8},
                "weighter": {"use": "gacq", "score_rate": 0.0, "validation": 0.125},
            },
            "temporal": {"extends": "blocks", "partitioner": "temporal-blocks"},
        },
        "sweep": {"bits": ["W4A32"], "seeds": [0]},
    }


@dataclass
class DigitsUnits:
    """The units of one method; before each other everything is rounded to nearest. `cache` has the trajectories."""

    cache: Path
    method: str = "blocks"
    samples: int = 256
    iterations: int = 240
    rate: float = 0.1

    @cached_property
    def quantizer(self) -> MethodQuantizer:
        made = load_experiment(recipe(self.samples, self.iterations, self.rate))
        ctx = context(self.cache, made)
        return cell_quantizer(ctx, cell_of(ctx, self.method, "W4A32"), Costs(), lambda *_: None)

    @cached_property
    def q(self) -> QuantizedDenoiser:
        chosen, subject = self.quantizer.method, self.quantizer.subject
        factory = MethodFactory(chosen.weights, chosen.activations)
        q = QuantizedDenoiser(subject.denoiser, self.quantizer.plan, factory, STEPS)
        q.find_weight_grids()
        return q

    @cached_property
    def fitter(self) -> UnitFitter:
        entry = self.quantizer.subject.cache.entry(f"units-{self.method}", "0")
        return self.quantizer.fitter(self.q, self.quantizer.reconstruction.phases[0], entry)

    def fit(self, *names: str) -> dict[str, FitQuality]:
        """What these units come to, fitted one after the other by the engine."""
        wanted = [unit for unit in self.fitter.units if unit.name in names]
        assert len(wanted) == len(names)
        reports = replace(self.fitter, units=wanted).run()
        return {name: FitQuality.from_dict(report) for name, report in reports.items()}

    def unit(self, name: str) -> tuple[UnitPlan, int]:
        position = next(i for i, unit in enumerate(self.fitter.units) if unit.name == name)
        return self.fitter.units[position], position

    def data(self, name: str) -> UnitData:
        """A unit's samples."""
        return replace(self.fitter).capture.data(*self.unit(name))

    def problem(self, name: str, data: UnitData) -> UnitProblem:
        """The unit at the start of a fit."""
        unit, position = self.unit(name)
        return self.fitter.problem(unit, position, self.fitter.begin(unit), data)

    def run(self, problem: UnitProblem, weighter: SampleWeighter, course: Course, seed: int = 0) -> None:
        """Fit the problem; what it learned stays soft."""
        streams = stream(seed, "mini-batches"), stream(seed, "weighter")
        fit = UnitFit("unit", self.fitter.phase, course, problem, weighter, *streams)
        fit.begin()
        for _ in fit.run():
            pass

    def harden(self, name: str) -> None:
        """End the unit's fit."""
        self.fitter.end(self.unit(name)[0])


def course(iterations: int, rate: float, batch: int = 8) -> Course:
    return Course(iterations, batch, {"rounding": Rate(rate)})


def planted(data: UnitData, share: float, size: float) -> tuple[UnitData, Tensor]:
    """The samples with noise of `size` standard deviations on the targets of a share of the training samples, and which."""
    rng = torch.Generator().manual_seed(7)
    bad = torch.zeros(len(data.train), dtype=torch.bool)
    bad[torch.randperm(len(data.train), generator=rng)[: round(share * len(data.train))]] = True
    made = copy.deepcopy(data)
    places = made.train[bad]
    for leaf in made.targets.tensors:
        leaf[places] += size * leaf.std() * torch.randn(leaf[places].shape, generator=rng)
    return made, bad
