"""The quantization error of each sampling step as a line, a bias and noise; and what undoes them while sampling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ptqbench.roles.hook import PredictionPairs, SamplerHook
from ptqbench.roles.solver import StepNoise
from ptqbench_ptqd import PtqdOptions


def slope_of(error: Tensor, eps: Tensor) -> float:
    """Least squares with intercept of all elements of `error` on those of `eps`; negative slopes count as 0.

    0 as well where `eps` is constant.
    """
    centred = eps - eps.mean()
    square = float(centred.square().sum())
    return max(0.0, float((centred * error).sum()) / square) if square > 0 else 0.0


def channel_means(error: Tensor) -> Tensor:
    """Means (C,) of (B, C, ...) over samples and positions."""
    return error.flatten(2).mean(dim=(0, 2))


def spread(rest: Tensor) -> float:
    """Root mean square of (B, C, ...) around its channels' means."""
    means = channel_means(rest)
    return float((rest.flatten(2) - means[:, None]).square().mean().sqrt())


def spread_per_sample(rest: Tensor) -> float:
    """Mean over samples of the standard deviation of a sample's elements around their common mean (unbiased)."""
    return float(rest.flatten(1).std(dim=1).mean())


class Ptqd(SamplerHook):
    """Correlated and uncorrelated quantization noise, corrected at every step (PTQD, arXiv:2305.10657).

    The error of a step is d = eps_q - eps = k eps + b_c + r n with standard normal n; k, b (C,) and r are fitted for each
    sampling step apart.
    """

    options: PtqdOptions

    def __init__(self, options: PtqdOptions) -> None:
        super().__init__(options)
        self.trajectories = options.trajectories

    def fit(self, pairs: PredictionPairs) -> dict[str, Tensor]:
        """Float32 "slope" (S,), "bias" (S, C) and "deviation" (S,), of the noise before it is divided by 1 + k.

        What is switched off is 0.
        """
        found = [self._step(*pairs.at(s)) for s in range(pairs.steps)]
        slope, bias, deviation = zip(*found, strict=True)
        return {
            "slope": torch.tensor(slope, dtype=torch.float32),
            "bias": torch.stack(bias).float(),
            "deviation": torch.tensor(deviation, dtype=torch.float32),
        }

    def _step(self, full: Tensor, quantized: Tensor) -> tuple[float, Tensor, float]:
        """k, b and r of one step from predictions (B, C, ...)."""
        options, eps = self.options, full.double()
        error = quantized.double() - eps
        k = slope_of(error, eps) if options.slope else 0.0
        rest = error - k * eps
        b = channel_means(error if options.compat else rest)
        r = (spread_per_sample if options.compat else spread)(rest)
        return k, b if options.bias else torch.zeros_like(b), r if options.variance else 0.0

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.slope, self.bias = state["slope"], state["bias"]
        self.deviation = (state["deviation"] / (1 + state["slope"])).tolist()

    def prediction(self, step: Tensor, eps: Tensor) -> Tensor:
        """(eps - b) / (1 + k) with each row's own step."""
        slope, bias = (table.to(eps)[step] for table in (self.slope, self.bias))
        positions = [1] * (eps.dim() - 2)
        return (eps - bias.reshape(*bias.shape, *positions)) / (1 + slope).reshape(-1, 1, *positions)

    def noise(self, step: int, planned: StepNoise) -> StepNoise:
        """Fresh noise with the variance that the prediction's own noise leaves of the schedule's, and not below 0.

        One step turns noise of deviation r / (1 + k) in the prediction into |c| r / (1 + k), with
        c = sqrt(1 - a' - sigma^2) - sqrt(a' (1 - a) / a) for alphas a before and a' after it.
        """
        excess = self.deviation[step]
        if planned.sigma == 0 or excess == 0:
            # Exactly as planned: a root of a square may differ in the last bit.
            return planned
        a, b = planned.alpha, planned.alpha_next
        factor = math.sqrt(max(0.0, 1 - b - planned.direction**2)) - math.sqrt(b * (1 - a) / a)
        sigma = math.sqrt(max(0.0, planned.sigma**2 - (factor * excess) ** 2))
        return replace(planned, sigma=sigma, direction=sigma if self.options.compat else planned.direction)
