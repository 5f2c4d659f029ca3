"""Solvers: from the prediction at each sampling step to the next latent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ptqbench.roles.base import WithOptions


@dataclass(frozen=True)
class StepNoise:
    """The noise of one sampling step from the cumulative alpha `alpha` to `alpha_next`.

    The step ends at sqrt(alpha_next) x0 + sqrt(1 - alpha_next - direction^2) eps + sigma z with fresh noise z. Without hooks
    `direction` equals `sigma` (DDIM, arXiv:2010.02502, equation 12).
    """

    alpha: float
    alpha_next: float
    sigma: float
    direction: float


Update = Callable[[int, Tensor, Tensor, Tensor | None, StepNoise], Tensor]
"""`update(s, x, eps, noise, planned)`: the latent (B, C, H, W) after step s, from its input and prediction: noise, or velocity.

`noise` is fresh standard normal noise where the step adds any, of the size that is `planned`, and None elsewhere. Called once
for each step in order: a multistep solver remembers what came before.
"""


class Schedule(ABC):
    """The steps of a solver on one model's noise schedule, one for each prediction.

    `timesteps` (S,) int64, noisiest first, are what the denoiser receives; of a flow float32, since they lie between those of
    training. `alpha` (S,) float64, the cumulative alphas there.
    """

    timesteps: Tensor
    alpha: Tensor

    @property
    def steps(self) -> int:
        return int(self.timesteps.shape[0])

    @abstractmethod
    def start(self) -> Update:
        """The update for one batch from its noise to its latents."""

    def noise(self, s: int) -> StepNoise:
        """What the schedule itself does at step s; nothing here, where a solver is deterministic."""
        following = float(self.alpha[s + 1]) if s + 1 < self.steps else 1.0
        return StepNoise(float(self.alpha[s]), following, 0.0, 0.0)

    @cached_property
    def gains(self) -> Tensor:
        """Derivative (S,) float64 of the next latent with respect to the step's prediction.

        It is one number for all elements, since updates are linear in them, and is found by autograd where a solver has no
        formula. What a multistep solver makes of the prediction in later steps is not in it.
        """
        update, nothing, found = self.start(), torch.zeros(1, 1, 1, 1, dtype=torch.float32, device="cpu"), list[float]()
        for s in range(self.steps):
            with torch.inference_mode(False), torch.enable_grad():
                eps = nothing.clone().requires_grad_()
                after = update(s, nothing.clone(), eps, None, self.noise(s))
                # Kept, because what the solver remembers hangs on the same graph.
                (slope,) = torch.autograd.grad(after.sum(), eps, retain_graph=True)
            found.append(float(slope))
        return torch.tensor(found, dtype=torch.float64, device="cpu")


class Solver(WithOptions, ABC):
    """Built as `Class(options)`. `grids` are the spacings of timesteps that it knows, the usual one first; a solver that is
    `stochastic` knows an eta other than 0, and one for a `flow` takes velocities of rectified flows in place of noise."""

    grids: tuple[str, ...] = ()
    stochastic = False
    flow = False

    @abstractmethod
    def schedule(self, alphas_cumprod: Tensor, grid: str, steps: int, eta: float) -> Schedule:
        """The steps on the cumulative alphas (T,) float64, of a flow as `ptqbench.roles.flow` states them, for one of `grids`.

        Raises `UserError` if they do not fit.
        """
