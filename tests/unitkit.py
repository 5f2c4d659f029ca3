"""One unit of the embedded digits model, fitted by a method of which a few words are changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ptqbench.boundary.build import build
from ptqbench.fitting.fit import UnitFit
from ptqbench.fitting.inner import UnitProblem
from ptqbench.fitting.method import MethodFactory, phases_with_work
from ptqbench.fitting.unit_data import Samples
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.recipe.load import load_experiment
from ptqbench.running.cell import cell_quantizer
from ptqbench.sampling.calibrate import split
from ptqbench.sampling.rng import stream
from ptqbench.stage.cache import Cache, Costs
from ptqbench.stage.context import RunContext

STEPS = 10
BASE: dict[str, Any] = {
    "recipe": {"name": "unit", "baseline": "m"},
    "model": {"use": "digits"},
    "sampling": {"steps": STEPS, "images": 8, "seed": 1, "batch": 8},
    "calibration": {"trajectories": 16, "samples": 80, "batch": 40},
    "evaluation": {"features": "digits", "metrics": ["eps-error"], "probes": 4},
}


@dataclass(frozen=True)
class Gain:
    """Mean loss of a unit on samples that it was not fitted on, before and after the last phase that has work."""

    before: float
    after: float

    @property
    def ratio(self) -> float:
        return self.after / self.before


def fitted(cache: Path, unit: str, method: Mapping[str, Any], bits: str, seed: int = 0) -> Gain:
    """Fit one unit, all others rounded to nearest; a quarter of the samples is held out."""
    table = {"passes": ["first-last-8bit", "skip-split"], **method}
    made = load_experiment({**BASE, "methods": {"m": table}, "sweep": {"bits": [bits], "seeds": [seed]}})
    ctx = RunContext(made, Cache(cache), torch.device("cpu"))
    quantizer = cell_quantizer(ctx, next(cell for cell in made.cells if cell.method), Costs(), lambda *_: None)
    subject, chosen = quantizer.subject, quantizer.method
    calibration = subject.calibration()
    parts = split(calibration.step, STEPS, 0.25, 1, stream(seed, "validation split"), calibration.branches)
    quantizer.drawn = Samples(calibration, parts, partial(subject.predict, calibration), subject.batch, subject.device)
    q = QuantizedDenoiser(subject.denoiser, quantizer.plan, MethodFactory(chosen.weights, chosen.activations), STEPS)
    if not chosen.weights.off:
        q.find_weight_grids()
    if not chosen.activations.off:
        with torch.no_grad(), q.observing():
            for piece in parts.train.split(subject.batch):
                quantizer.drawn.predict(q, piece)
        q.freeze_activations()
    phase = phases_with_work(quantizer.reconstruction, chosen)[-1]
    q.quantize_activations(phase.activations and not chosen.activations.off)
    fitter = quantizer.fitter(q, phase, subject.cache.entry("unit", "0"))
    position, plan = next((i, u) for i, u in enumerate(fitter.units) if u.name == unit)
    data, course = fitter.capture.data(plan, position), fitter.reconstruction.course(phase)

    def problem(kinds: Mapping[str, str]) -> UnitProblem:
        made = fitter.problem(plan, position, kinds, data)
        made.power = course.power
        return made

    @torch.no_grad()
    def held_out() -> float:
        value = problem({})
        with value.nothing_dropped():
            return float(value.losses(value.take(torch.arange(len(data.validation)), split="validation")).mean())

    before = held_out()
    learned = problem(fitter.begin(plan))
    rng, other = stream(seed, "mini-batches", unit), stream(seed, "weighter", unit)
    fit = UnitFit(unit, phase, course, learned, build(fitter.weighter), rng, other)
    fit.begin()
    for _ in fitter.reconstruction.fit(fit):
        pass
    fitter.end(plan)
    return Gain(before, held_out())
