"""Sampling schedules: explicit timestep lists and the generalised DDIM update (arXiv:2010.02502, equation 12)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ptqbench.errors import UserError
from ptqbench.roles.hook import StepNoise


def uniform_timesteps(total: int, steps: int) -> Tensor:
    """Evenly spaced timesteps (steps,) int64, noisiest first: 1 + i * (total // steps) as latent diffusion lists them.

    Raises `UserError` unless `steps` divides `total`: rounding the stride silently changes the number of steps (asking a
    released sampler for 400 of 1000 steps runs 500).
    """
    if not 1 <= steps <= total:
        raise UserError(f"{steps} sampling steps do not fit a schedule of {total}", f"choose between 1 and {total}")
    if total % steps:
        near = min((d for d in range(1, total + 1) if total % d == 0), key=lambda d: abs(d - steps))
        raise UserError(
            f"{steps} steps do not divide a schedule of {total} timesteps", f"the nearest number that does is {near}"
        )
    offset = 1 if steps < total else 0
    return (torch.arange(steps, dtype=torch.int64, device="cpu") * (total // steps) + offset).flip(0)


def quadratic_timesteps(total: int, steps: int) -> Tensor:
    """Quadratically spaced timesteps (steps,) int64, noisiest first: int(linspace(0, sqrt(0.8 total), steps)^2).

    The first few may repeat (0 four times for 100 of 1000), as in the CIFAR-10 protocol; all of them are executed.
    """
    if steps < 2:
        raise UserError("a quadratic grid needs at least 2 steps", 'raise sampling.steps or use grid = "uniform"')
    roots = torch.linspace(0, math.sqrt(0.8 * total), steps, dtype=torch.float64, device="cpu")
    # 0.8 * total is met exactly only up to rounding: without the margin int() may land one timestep lower.
    return (roots.square() + 1e-9).to(torch.int64).flip(0)


GRIDS = {"uniform": uniform_timesteps, "quad": quadratic_timesteps}


@dataclass(frozen=True)
class Schedule:
    """Timesteps (S,) noisiest first, with the cumulative alphas at each and after each step, float64."""

    timesteps: Tensor
    alpha: Tensor
    alpha_next: Tensor
    eta: float

    @classmethod
    def build(cls, grid: str, steps: int, eta: float, alphas_cumprod: Tensor) -> Schedule:
        """The last step leads to alpha = 1, the clean sample."""
        timesteps = GRIDS[grid](int(alphas_cumprod.shape[0]), steps)
        alpha = alphas_cumprod.to(torch.float64)[timesteps]
        return cls(timesteps, alpha, torch.cat([alpha[1:], torch.ones(1, dtype=torch.float64, device=alpha.device)]), eta)

    @property
    def steps(self) -> int:
        return int(self.timesteps.shape[0])

    def update(self, s: int, x: Tensor, eps: Tensor, noise: Tensor | None, planned: StepNoise | None = None) -> Tensor:
        """x after step s: x0 = (x - sqrt(1-a) eps) / sqrt(a); x' = sqrt(a') x0 + sqrt(1 - a' - sigma^2) eps + sigma noise.

        `planned` takes the place of `self.noise(s)`, where its `direction` is the sigma in the factor of eps.
        """
        planned = self.noise(s) if planned is None else planned
        a, b = planned.alpha, planned.alpha_next
        clean = (x - math.sqrt(1 - a) * eps) / math.sqrt(a)
        out = math.sqrt(b) * clean + math.sqrt(max(0.0, 1 - b - planned.direction**2)) * eps
        return out if noise is None else out + planned.sigma * noise

    @property
    def gains(self) -> Tensor:
        """Derivative (S,) float64 of the next latent with respect to the noise prediction, the same for all elements:
        sqrt(1 - a' - sigma^2) - sqrt(a' (1 - a) / a), from the update above."""
        sigma = torch.tensor([self.sigma(s) for s in range(self.steps)], dtype=torch.float64, device=self.alpha.device)
        a, b = self.alpha, self.alpha_next
        return (1 - b - sigma.square()).clamp(min=0).sqrt() - (b * (1 - a) / a).sqrt()

    def noise(self, s: int) -> StepNoise:
        """What the schedule itself does at step s."""
        sigma = self.sigma(s)
        return StepNoise(float(self.alpha[s]), float(self.alpha_next[s]), sigma, sigma)

    def sigma(self, s: int) -> float:
        """Standard deviation of the fresh noise at step s: eta sqrt((1-a')/(1-a)) sqrt(1 - a/a'); 0 for repeated steps."""
        a, b = float(self.alpha[s]), float(self.alpha_next[s])
        if self.eta == 0 or a >= b:
            return 0.0
        return self.eta * math.sqrt((1 - b) / (1 - a)) * math.sqrt(1 - a / b)
