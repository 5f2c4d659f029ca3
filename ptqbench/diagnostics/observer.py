"""What is measured while a unit is fitted: gradients by timestep group, and at the end agreement with validation."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ptqbench.diagnostics.gradients import (
    cosines,
    evenly,
    frozen_params,
    mean_gradient,
    sample_gradients,
)
from ptqbench.digest import code_digest
from ptqbench.fitting.inner import UnitProblem
from ptqbench.fitting.observer import Observer
from ptqbench.quant.steps import step_group
from ptqbench.roles.weighter import SampleWeighter

MOMENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""When gradients are measured, as progress of a unit's fit: before its first iteration, ..., after its last."""

ROUNDING = 1e-6
"""Progress is a quotient of iterations; a moment counts as reached this much earlier."""


@dataclass
class GradientObserver(Observer):
    """Timestep groups of a unit's task loss: how their gradients lie to each other while the unit is fitted.

    `groups` equal ranges of sampling steps are measured on at most `samples` calibration samples each, training and
    validation alike and the same for every method with that calibration set. At the end, if the weighter reports "weights"
    of the training samples, the gradients of at most `singles` of them are compared with that of the validation split
    (arXiv:2602.01289, figures 1a and 2).

    Kept for each unit, with G groups and M = 5 moments: "cosine" (M, G, G), "norm" and "loss" (M, G), "count" (G,),
    "train.step" (N,), "seconds" (1,) that measuring took, and perhaps "agreement", "agreement.weight" and "agreement.step"
    (K,).
    """

    groups: int = 5
    samples: int = 64
    singles: int = 128
    _found: dict[str, list[Tensor]] = field(default_factory=dict, init=False)
    _seconds: float = field(default=0.0, init=False)

    @property
    def key(self) -> Mapping[str, Any]:
        sources = {name: (Path(__file__).parent / name).read_bytes() for name in ("observer.py", "gradients.py")}
        options = {"groups": self.groups, "samples": self.samples, "singles": self.singles}
        return {"observer": "gradients", "source": code_digest(sources), **options}

    def begin(self, problem: UnitProblem) -> None:
        """The first values are measured after the first iteration, when the reconstruction has chosen its exponent."""
        self._found, self._seconds = {"cosine": [], "norm": [], "loss": []}, 0.0
        with self._timed():
            self.problem, self.first = problem, frozen_params(problem)
            group = step_group(problem.data.step, len(problem.timesteps), self.groups)
            members = [(group == g).nonzero().flatten() for g in range(self.groups)]
            self.places = [evenly(places, self.samples) for places in members]

    def see(self, progress: float) -> None:
        with self._timed():
            if not self._taken:
                self._measure(self.first)
            self._catch_up(progress)

    def end(self, weighter: SampleWeighter) -> Mapping[str, Tensor]:
        """The findings of the unit."""
        with self._timed():
            if not self._taken:
                self._measure(self.first)
            # A reconstruction may stop early.
            self._catch_up(1.0)
            found = {name: torch.stack(values) for name, values in self._found.items()}
            found["count"] = torch.tensor([len(places) for places in self.places], dtype=torch.int64, device="cpu")
            found["train.step"] = self.problem.train_steps.clone()
            found |= self._agreement(weighter.report().get("weights"))
        found["seconds"] = torch.tensor([self._seconds], dtype=torch.float64, device="cpu")
        del self.problem, self.first, self.places
        return found

    @property
    def _taken(self) -> int:
        """How many moments have been measured."""
        return len(self._found["cosine"])

    def _catch_up(self, progress: float) -> None:
        """Measure once for all moments that have been reached."""
        due = sum(moment <= progress + ROUNDING for moment in MOMENTS) - self._taken
        if due > 0:
            self._measure(frozen_params(self.problem))
            for values in self._found.values():
                values.extend(values[-1:] * (due - 1))

    def _measure(self, params: Mapping[str, Tensor]) -> None:
        size = sum(value.numel() for value in params.values())
        gradients = torch.full((self.groups, size), torch.nan, dtype=torch.float64, device="cpu")
        losses = [float("nan")] * self.groups
        with self.problem.nothing_dropped():
            for g, places in enumerate(self.places):
                if len(places):
                    gradients[g], losses[g] = mean_gradient(self.problem, places, params)
        self._found["cosine"].append(cosines(gradients))
        self._found["norm"].append(gradients.norm(dim=1))
        self._found["loss"].append(torch.tensor(losses, dtype=torch.float64, device="cpu"))

    def _agreement(self, weights: Tensor | None) -> dict[str, Tensor]:
        """Cosine of single training samples' gradients with that of the mean validation loss, beside their weights."""
        data = self.problem.data
        if weights is None or weights.shape != data.train.shape:
            return {}
        params, places = frozen_params(self.problem), torch.arange(len(data.train), dtype=torch.int64, device="cpu")
        chosen = evenly(places, self.singles)
        judges = data.validation if len(data.validation) else torch.arange(len(data.step), dtype=torch.int64, device="cpu")
        with self.problem.nothing_dropped():
            goal, _ = mean_gradient(self.problem, judges, params)
            singles = sample_gradients(self.problem, data.train[chosen], params)
            found = torch.stack([cosines(torch.stack([goal, own]))[0, 1] for own in singles])
        kept = {"agreement": found, "agreement.weight": weights.detach().cpu()[chosen].double()}
        return kept | {"agreement.step": data.step[data.train][chosen]}

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds += time.perf_counter() - start
