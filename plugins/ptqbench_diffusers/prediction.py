"""From what a network predicts to the noise that the engine works with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ptqbench.roles.model import Conditions
from ptqbench_diffusers.noise import Noise


@dataclass(frozen=True)
class NoisePrediction:
    """Calls a denoiser and converts its output. `signal` and `spread` (T,) float32 are sqrt(a) and sqrt(1 - a)."""

    kind: str
    signal: Tensor
    spread: Tensor

    @classmethod
    def of(cls, noise: Noise, device: torch.device) -> NoisePrediction:
        a = noise.alphas_cumprod
        return cls(noise.prediction, a.sqrt().float().to(device), (1.0 - a).sqrt().float().to(device))

    def __call__(self, denoiser: nn.Module, x: Tensor, t: Tensor, cond: Conditions) -> Tensor:
        """Noise prediction (N, C, H, W) for x (N, C, H, W) and t (N,) int64; `cond` may hold class_labels (N,)."""
        out: Tensor = denoiser(x, t, class_labels=cond.get("class_labels")).sample
        # Channels beyond the input's are a learned variance, which the sampler does not use.
        out = out[:, : x.shape[1]]
        if self.kind == "epsilon":
            return out
        signal, spread = self.signal[t].view(-1, 1, 1, 1), self.spread[t].view(-1, 1, 1, 1)
        if self.kind == "v_prediction":
            return signal * out + spread * x
        return (x - signal * out) / spread
