"""Structural similarity against full precision on equal noise (Wang et al. 2004)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ptqbench.errors import CellFailedError
from ptqbench.evaluate.evidence import Evidence
from ptqbench.roles.features import FeatureInfo
from ptqbench.roles.metric import Metric, MetricValue
from ptqbench_metrics.naming import mean_value

WINDOW = 11
SIGMA = 1.5
STABILISERS = ((0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2)
"""C1 and C2 for pixels in 0..255."""


class Ssim(Metric):
    """Mean structural similarity of pairs of images; 1 for equal ones."""

    better = "higher"
    relative = True

    def names(self, extractor: FeatureInfo) -> list[str]:
        """One name."""
        return ["ssim@fp"]

    def compute(self, evidence: Evidence) -> Mapping[str, MetricValue]:
        """Raises `CellFailedError` for fewer than two images, images that do not pair, or images below 11x11."""
        if evidence.is_full_precision:
            return {}
        values = torch.cat([similarity(ours, theirs) for ours, theirs in evidence.pairs()]).numpy()
        return {"ssim@fp": mean_value(values)}


def similarity(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity (N,) float64 of images (N, C, H, W) in 0..255: mean over places of the window and channels.

    The Gaussian window lies within the image everywhere. Variances and covariances are those of the window's weights, as in
    the authors' code (no correction for a sample). Raises `CellFailedError` below 11x11 pixels.
    """
    if min(x.shape[-2:]) < WINDOW:
        raise CellFailedError(
            f"images of {x.shape[-2]}x{x.shape[-1]} pixels are smaller than SSIM's window of {WINDOW}x{WINDOW}",
            'leave the metric "ssim" out; "psnr" has no window',
        )
    a, b = (z.double().flatten(0, 1)[:, None] for z in (x, y))
    mean_a, mean_b = _blur(a), _blur(b)
    var_a, var_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    c1, c2 = STABILISERS
    above = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    below = (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return (above / below).mean(dim=(1, 2, 3)).reshape(x.shape[:2]).mean(dim=1)


def _blur(images: Tensor) -> Tensor:
    """Weighted means (N, 1, H - 10, W - 10) over all places of the window."""
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    return F.conv2d(F.conv2d(images, weights[None, None, :, None]), weights[None, None, None, :])
