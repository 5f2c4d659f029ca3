"""A denoiser as samplers and captures call it: told which sampling step each row is at, corrected by hooks, counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ptqbench.quant.layer import StepContext
from ptqbench.roles.hook import SamplerHook
from ptqbench.roles.model import Conditions, DiffusionModel
from ptqbench.roles.solver import Schedule, StepNoise
from ptqbench.stage.counting import count_denoiser
from ptqbench.stage.prediction import for_solver


@dataclass(frozen=True)
class Prediction:
    """`eps` is what the sampler goes on with: the predictions of all `branches`, of noise or of a flow's velocity, combined and
    corrected by hooks.

    All are (B, C, H, W).
    """

    eps: Tensor
    branches: Mapping[str, Tensor]


@dataclass(frozen=True)
class Predictor:
    """A denoiser that tells its quantizers which sampling step each row is at before it predicts.

    `hooks` correct its predictions, and the noise of a sampler that uses it, in their order.
    """

    model: DiffusionModel
    denoiser: nn.Module
    schedule: Schedule
    context: StepContext | None = None
    hooks: Sequence[SamplerHook] = ()

    def __call__(self, x: Tensor, step: Tensor, conditions: Mapping[str, Conditions]) -> Prediction:
        """The prediction for x (B, C, H, W) at sampling steps `step` (B,), made of an evaluation in each branch."""
        branches = {branch: self.evaluate(x, step, cond) for branch, cond in conditions.items()}
        eps = self.model.combine(branches)
        for hook in self.hooks:
            eps = hook.prediction(step.to(x.device), eps)
        return Prediction(eps, branches)

    def evaluate(self, x: Tensor, step: Tensor, cond: Conditions, t: Tensor | None = None) -> Tensor:
        """One evaluation: the noise prediction (B, C, H, W) under the conditions of each row; `t` overrides the timesteps."""
        # Counted first, because a recording may end the pass early.
        count_denoiser(len(x))
        if self.context is not None:
            self.context.step = step.to(x.device)
        label = self.schedule.timesteps[step] if t is None else t
        output = self.model.call(self.denoiser, x, label.to(x.device), cond)
        return for_solver(self.model, output, x, self.alpha_at(step, label))

    def alpha_at(self, step: Tensor, label: Tensor) -> Tensor:
        """The cumulative alphas (B,) of rows at these steps: the schedule's, whose levels may lie between timesteps. Where the
        label of a row is not its step's, that of the label."""
        planned, alpha = self.schedule.timesteps[step], self.schedule.alpha[step]
        # A flow's labels lie between timesteps, and nothing reads the level of its velocity.
        if self.model.prediction == "flow" or torch.equal(label, planned):
            return alpha
        return torch.where(label == planned, alpha, self.model.alphas_cumprod[label])

    def noise(self, s: int) -> StepNoise:
        """The sampler's noise at step s: the schedule's, as the hooks change it."""
        planned = self.schedule.noise(s)
        for hook in self.hooks:
            planned = hook.noise(s, planned)
        return planned
