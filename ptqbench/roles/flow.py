"""Rectified flows (arXiv:2209.03003): x = (1 - sigma) x0 + sigma eps, and denoisers that predict the velocity eps - x0.

Noise schedules are stated as cumulative alphas for flows too: those at which a diffusion has as much noise to its signal,
a / (1 - a) = ((1 - sigma) / sigma)^2.
"""

from __future__ import annotations

from torch import Tensor


def alphas_of(sigma: Tensor) -> Tensor:
    """The cumulative alphas of noise levels in [0, 1], of any shape; 0 at pure noise."""
    signal = (1.0 - sigma).square()
    return signal / (signal + sigma.square())


def sigmas_of(alpha: Tensor) -> Tensor:
    """Inverse of `alphas_of`."""
    noise = (1.0 - alpha).sqrt()
    return noise / (alpha.sqrt() + noise)


def shifted(sigma: Tensor, shift: float) -> Tensor:
    """Noise levels moved towards pure noise: sigma / (1 - sigma) becomes `shift` times as large (arXiv:2403.03206, section
    5.3.2)."""
    return shift * sigma / (1.0 + (shift - 1.0) * sigma)
