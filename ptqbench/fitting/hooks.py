"""Sampler hooks of a cell: fitted after quantization on pairs of predictions, stored, and set before the sampler."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ptqbench.boundary.build import build
from ptqbench.plugin.component import Bound
from ptqbench.roles.hook import PredictionPairs, SamplerHook
from ptqbench.sampling.reference import calibration_states, predict_states
from ptqbench.stage.cache import Costs, Entry, cached_tensors, content_key
from ptqbench.stage.context import RunContext
from ptqbench.stage.predictor import Predictor
from ptqbench.stage.stages import Tell


@dataclass(frozen=True)
class KeptHook:
    """A fitted hook: what was chosen, and the tensors that `SamplerHook.restore` takes."""

    chosen: Bound
    tensors: Mapping[str, Tensor]

    def create(self, device: torch.device) -> SamplerHook:
        """The hook, ready to correct predictions on a device."""
        hook: SamplerHook = build(self.chosen)
        hook.restore({name: tensor.to(device) for name, tensor in self.tensors.items()})
        return hook


@dataclass(frozen=True)
class Corrected:
    """A predictor with fitted hooks, the key of its weights, grids and hooks, and what each hook keeps."""

    predictor: Predictor
    state: str
    kept: tuple[KeptHook, ...] = ()

    @property
    def values(self) -> int:
        """How many numbers the hooks keep."""
        return sum(tensor.numel() for hook in self.kept for tensor in hook.tensors.values())


def fitting_trajectories(ctx: RunContext, hook: SamplerHook) -> int:
    """How many calibration trajectories a hook is fitted on."""
    return min(hook.trajectories, ctx.experiment.calibration.trajectories)


@dataclass(frozen=True)
class HookFitter:
    """Fits hooks in their order, each on predictions that the ones before it have corrected."""

    ctx: RunContext
    costs: Costs
    tell: Tell
    seed: int

    def fit(self, corrected: Corrected, chosen: Bound) -> Corrected:
        """The predictor with one more hook, fitted or read from the cache."""
        hook: SamplerHook = build(chosen)
        count = fitting_trajectories(self.ctx, hook)
        # They decide which shards hold these trajectories, and so how predictions are batched.
        parts = [self.ctx.experiment.calibration.trajectories, self.ctx.experiment.calibration.batch]
        key = content_key(corrected.state, "sampler hook", chosen.key, count, parts, self.seed)

        def make(_: Entry) -> dict[str, Tensor]:
            return dict(hook.fit(self._pairs(corrected.predictor, chosen.name, count)))

        stored = cached_tensors(self.ctx.cache, self.costs, f"hook-{chosen.name}", key, make)
        # Another instance than the one that was fitted: fresh and resumed runs know the same.
        kept = KeptHook(chosen, stored)
        hooks = (*corrected.predictor.hooks, kept.create(self.ctx.device))
        return Corrected(dataclasses.replace(corrected.predictor, hooks=hooks), key, (*corrected.kept, kept))

    def _pairs(self, predictor: Predictor, name: str, count: int) -> PredictionPairs:
        """Predictions of the full-precision model and of `predictor` on calibration trajectories."""
        ctx, steps = self.ctx, self.ctx.schedule.steps
        states = calibration_states(ctx, self.seed, count)

        def at(s: int) -> tuple[Tensor, Tensor]:
            self.tell(f"sampler hook {name}, step {s + 1}/{steps}", s / steps)
            full, quantized = (predict_states(ctx, p, states[:, s], s, "calibration").eps for p in (ctx.predictor(), predictor))
            return full, quantized

        return PredictionPairs(steps, count, at)
