"""Feature extractors: networks whose features describe images for set metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from ptqbench.evaluate.features import POOL, PROBABILITIES, SPATIAL, FeatureInfo
from ptqbench.roles.base import WithOptions

__all__ = ["POOL", "PROBABILITIES", "SPATIAL", "FeatureExtractor", "FeatureInfo"]


class FeatureExtractor(WithOptions, ABC):
    """Maps 8-bit images to named features. Built as `Class(options)`.

    Range, and resizing where the network needs it, are the extractor's business and nobody else's: images arrive as they
    were generated or read.
    """

    @property
    def inception(self) -> bool:
        """True for the 2015 Inception network under the weights that published FIDs rest on, and for nothing else."""
        return False

    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the extractor's weights and configuration."""

    @abstractmethod
    def outputs(self) -> Mapping[str, int]:
        """Width of each output by name, known without weights; "pool" is always among them."""

    @abstractmethod
    def prepare(self, device: torch.device) -> None:
        """Load weights onto `device`; called once before `extract`."""

    @abstractmethod
    def extract(self, images: Tensor) -> Mapping[str, Tensor]:
        """The features of images (N, C, H, W) uint8, each (N, width) float32, under the names of `outputs()`.

        Must not depend on how images are batched. Raises `UserError` for images of a size that does not fit.
        """
