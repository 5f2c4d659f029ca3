"""The feature extractor of a recipe that names none."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ptqbench.plugin.component import NoOptions
from ptqbench.roles.features import FeatureExtractor


class NoFeatures(FeatureExtractor):
    """Has no outputs, so that metrics which read any are refused before something is computed."""

    def __init__(self) -> None:
        super().__init__(NoOptions())

    def fingerprint(self) -> str:
        return ""

    def outputs(self) -> Mapping[str, int]:
        return {}

    def prepare(self, device: torch.device) -> None:
        """There is nothing to load."""

    def extract(self, images: Tensor) -> Mapping[str, Tensor]:
        return {}
