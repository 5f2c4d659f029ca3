"""From what a denoiser was trained to predict to what solvers, metrics and methods work with: the one place.

That is the noise, or the velocity of a flow, from which at pure noise no other prediction follows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ptqbench.roles.flow import sigmas_of
from ptqbench.roles.model import DiffusionModel, PredictionType


def for_solver(model: DiffusionModel, output: Tensor, x: Tensor, alpha: Tensor) -> Tensor:
    """The prediction (B, C, H, W) in a model's output for x (B, C, H, W) at cumulative alphas (B,): of its noise, or its
    velocity."""
    if model.prediction == "flow":
        return output[:, : x.shape[1]]
    return to_noise(model.prediction, output, x, alpha)


def noised(kind: PredictionType, clean: Tensor, noise: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """A state (B, C, H, W) with this noise at a cumulative alpha, and what `for_solver` gives there for a right prediction."""
    if kind == "flow":
        sigma = float(sigmas_of(torch.tensor(alpha, dtype=torch.float64, device="cpu")))
        return (1 - sigma) * clean + sigma * noise, noise - clean
    return alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise, noise


def to_noise(kind: PredictionType, output: Tensor, x: Tensor, alpha: Tensor) -> Tensor:
    """The noise prediction (B, C, H, W) in a denoiser's output for x (B, C, H, W) at cumulative alphas `alpha` (B,) float64.

    x = sqrt(a) x0 + sqrt(1 - a) eps and v = sqrt(a) eps - sqrt(1 - a) x0. Channels beyond C hold a learned variance, which no
    solver here uses.
    """
    output = output[:, : x.shape[1]]
    if kind == "epsilon":
        return output
    signal, spread = (root.to(x).view(-1, 1, 1, 1) for root in (alpha.sqrt(), (1.0 - alpha).sqrt()))
    return signal * output + spread * x if kind == "v_prediction" else (x - signal * output) / spread
