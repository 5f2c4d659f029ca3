"""Feature extractors: networks whose features describe images for set metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ptqbench.component import Options


class FeatureExtractor(ABC):
    """Maps 8-bit images to feature vectors. Built as `Class(options)`."""

    def __init__(self, options: Options) -> None:
        self.options = options

    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the extractor's weights and configuration."""

    @abstractmethod
    def prepare(self, device: torch.device) -> None:
        """Load weights onto `device`; called once before `extract`."""

    @abstractmethod
    def extract(self, images: Tensor) -> Tensor:
        """Features (N, D) float32 of images (N, C, H, W) uint8. Must not depend on how images are batched."""
