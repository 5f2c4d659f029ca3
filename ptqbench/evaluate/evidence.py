"""What a metric may look at for one cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Evidence:
    """Images and predictions of one cell beside those of the full-precision model on the same noise.

    `images` and `full_precision` are uint8 (N, C, H, W), row i generated from the same noise in both. `features(which)`
    gives float64 (n, D) for "cell", "fp" (this recipe's full-precision images) or "data" (the model's real images; None
    where the model source has none); `feature_name` names the extractor. `noise_error` (P, S) float64 is the mean squared
    difference of the noise predictions to full precision for each held-out trajectory and sampling step, and `timesteps`
    (S,) the steps' labels.
    """

    images: Tensor
    full_precision: Tensor
    features: Callable[[str], Tensor | None]
    feature_name: str
    noise_error: Tensor
    timesteps: Tensor
    is_full_precision: bool
