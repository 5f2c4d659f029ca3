"""From what a denoiser was trained to predict to the noise that solvers, metrics and methods work with: the one place."""

from __future__ import annotations

from torch import Tensor

from ptqbench.roles.model import PredictionType


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
