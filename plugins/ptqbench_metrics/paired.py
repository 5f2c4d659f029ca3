"""Metrics that compare each prediction or image with full precision's on the same noise."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ptqbench.errors import CellFailedError
from ptqbench.evaluate.evidence import Evidence
from ptqbench.roles.features import FeatureInfo
from ptqbench.roles.metric import Metric, MetricValue
from ptqbench.roles.model import COND, UNCOND
from ptqbench_metrics.naming import LEAST_FOR_MEDIAN, mean_value, median_value

MSE_FLOOR = (0.5 / 255) ** 2
"""Squared error of half an 8-bit step on the 0..1 scale: below it, 8-bit images cannot tell a difference."""

TRAJECTORIES = "trajectories"
"""What the counts of errors of predictions count."""


def image_errors(evidence: Evidence) -> NDArray[np.float64]:
    """Mean squared error of each image (N,) against full precision, pixels scaled to 0..1."""
    parts = [(ours.double() - theirs.double()).square().flatten(1).mean(dim=1) for ours, theirs in evidence.pairs()]
    return np.concatenate([part.numpy() for part in parts]) / 255.0**2


def decibels(evidence: Evidence) -> NDArray[np.float64]:
    """PSNR of each image (N,) against full precision, in dB."""
    return -10.0 * np.log10(np.maximum(image_errors(evidence), MSE_FLOOR))


class NoiseError(Metric):
    """Mean squared error of the noise prediction, at inputs x_t of full-precision trajectories that no method saw.

    The trajectories are the independent units: errors at the steps of one trajectory are averaged before the interval.
    `detail` holds the timestep labels "t" and the mean over trajectories at each ("error").
    """

    relative = True
    name = "eps-error"

    def names(self, extractor: FeatureInfo) -> list[str]:
        """One name: the reference is full precision by definition."""
        return [self.name]

    def weights(self, evidence: Evidence) -> NDArray[np.float64]:
        """How much each sampling step counts (S,): all alike."""
        return np.ones(len(evidence.timesteps))

    def compute(self, evidence: Evidence) -> Mapping[str, MetricValue]:
        """Raises `CellFailedError` when predictions are not finite, or for fewer than two trajectories."""
        if evidence.is_full_precision:
            return {}
        return {self.name: self.value(evidence, evidence.noise_error)}

    def value(self, evidence: Evidence, found: Tensor) -> MetricValue:
        """The number for squared errors `found` (P, S) of predictions."""
        error = found.double().cpu().numpy() * self.weights(evidence)
        _require_finite(error, evidence.timesteps.tolist())
        detail = {"t": [float(t) for t in evidence.timesteps.tolist()], "error": error.mean(axis=0).tolist()}
        return mean_value(error.mean(axis=1), detail, TRAJECTORIES)


class BranchError(NoiseError):
    """The same for each of the evaluations that a guided prediction is combined of; nothing for a model that is not guided."""

    def names(self, extractor: FeatureInfo) -> list[str]:
        """One name for each branch."""
        return [f"{self.name}.{branch}" for branch in (COND, UNCOND)]

    def compute(self, evidence: Evidence) -> Mapping[str, MetricValue]:
        """Raises `CellFailedError` when predictions are not finite, or for fewer than two trajectories."""
        if evidence.is_full_precision:
            return {}
        return {f"{self.name}.{branch}": self.value(evidence, found) for branch, found in evidence.branch_errors.items()}


class LatentError(NoiseError):
    """Mean squared error that a sampling step's noise prediction puts into the next latent.

    It is the noise-prediction error of each step times the square of the sampler's own factor for it. `eps-error` counts all
    steps alike, and on a fine schedule nearly all of it comes from the last step, where x_t holds next to no noise: telling
    that noise is hard, and matters little for the image.
    """

    name = "latent-error"

    def weights(self, evidence: Evidence) -> NDArray[np.float64]:
        """The squares of `Evidence.gains` (S,)."""
        return evidence.gains.double().square().numpy()


class ImageError(Metric):
    """Mean over images of the mean squared pixel error against full precision."""

    relative = True

    def names(self, extractor: FeatureInfo) -> list[str]:
        """One name."""
        return ["mse@fp"]

    def compute(self, evidence: Evidence) -> Mapping[str, MetricValue]:
        """Raises `CellFailedError` for fewer than two images or images that do not pair."""
        if evidence.is_full_precision:
            return {}
        errors = image_errors(evidence)
        return {"mse@fp": mean_value(errors)}


class Psnr(Metric):
    """Mean over images of 10 log10 (1 / MSE), in dB, with each image's MSE at least `MSE_FLOOR` (54.15 dB)."""

    better = "higher"
    relative = True

    def names(self, extractor: FeatureInfo) -> list[str]:
        """One name."""
        return ["psnr@fp"]

    def compute(self, evidence: Evidence) -> Mapping[str, MetricValue]:
        """Raises `CellFailedError` for fewer than two images or images that do not pair."""
        return {} if evidence.is_full_precision else {"psnr@fp": mean_value(decibels(evidence))}


class MedianPsnr(Metric):
    """Median over images of the same, which single images that turned into another picture do not move."""

    better = "higher"
    relative = True

    def names(self, extractor: FeatureInfo) -> list[str]:
        """One name."""
        return ["psnr-median@fp"]

    def least_images(self, extractor: FeatureInfo) -> int:
        """As many as an interval of 95 % needs."""
        return LEAST_FOR_MEDIAN

    def compute(self, evidence: Evidence) -> Mapping[str, MetricValue]:
        """Raises `CellFailedError` for too few images or images that do not pair."""
        return {} if evidence.is_full_precision else {"psnr-median@fp": median_value(decibels(evidence))}


def _require_finite(error: NDArray[np.float64], timesteps: list[float]) -> None:
    bad = np.flatnonzero(~np.isfinite(error).all(axis=0))
    if bad.size:
        raise CellFailedError(
            f"noise predictions are not finite at {bad.size} of {error.shape[1]} timesteps, first at t = {timesteps[bad[0]]:g}",
            "look at the ranges of this method's activations and at the rate of its reconstruction",
        )
