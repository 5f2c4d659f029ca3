"""The feature extractor "digits"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ptqbench.errors import UserError
from ptqbench.roles.features import POOL, PROBABILITIES, FeatureExtractor
from ptqbench_digits import DigitsOptions, bundle
from ptqbench_digits.classifier import DigitsClassifier, build_classifier
from ptqbench_digits.data import SIZE, to_float

CHUNK = 256
"""Images per forward pass, whatever the caller's batches are."""
_HINT = "use a file that `ptqbench digits train` wrote, unchanged"


class DigitsFeatures(FeatureExtractor):
    """The 64 penultimate activations of the digits classifier, and its 10 probabilities. A distance on them is never "FID"."""

    def __init__(self, options: DigitsOptions) -> None:
        super().__init__(options)
        self._folder = bundle.folder_of(options.folder)
        self._device = torch.device("cpu")
        self._network: DigitsClassifier | None = None

    def fingerprint(self) -> str:
        """SHA-256 (hex) over classifier.safetensors and classifier.json. Raises `UserError` where one is missing."""
        return bundle.fingerprint(self._folder, bundle.CLASSIFIER)

    def prepare(self, device: torch.device) -> None:
        """Load the classifier onto `device`. Raises `UserError` if files are missing or altered."""
        config = self._config()
        try:
            network = build_classifier(config)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{self._folder / 'classifier.json'} does not describe a digits classifier: {error}",
                _HINT,
            ) from error
        bundle.load_weights(network, self._folder, bundle.CLASSIFIER)
        self._network, self._device = network.to(device), device

    def outputs(self) -> Mapping[str, int]:
        """Widths of the activations and of the probabilities, read from the configuration.

        Raises `UserError` if it is missing or describes no digits classifier.
        """
        network = self._config()
        return {POOL: network["features"], PROBABILITIES: network["classes"]}

    @torch.no_grad()
    def extract(self, images: Tensor) -> Mapping[str, Tensor]:
        """ "pool" (N, 64) and "probabilities" (N, 10), float32 on the CPU, of images (N, 1, 16, 16) uint8.

        Raises `UserError` for other images.
        """
        if self._network is None:
            raise RuntimeError("call prepare(device) before extracting features")
        _check(images)
        pool, probabilities = [], []
        for chunk in images.split(CHUNK) if len(images) else ():
            features = self._network.features(to_float(chunk.to(self._device)))
            pool.append(features.cpu())
            probabilities.append(self._network.head(features).softmax(dim=1).cpu())
        widths = self.outputs()
        return {
            POOL: torch.cat([torch.empty(0, widths[POOL]), *pool]),
            PROBABILITIES: torch.cat([torch.empty(0, widths[PROBABILITIES]), *probabilities]),
        }

    def _config(self) -> dict[str, Any]:
        found: dict[str, Any] = bundle.read_config(self._folder, bundle.CLASSIFIER)["network"]
        if not all(isinstance(found.get(key), int) for key in ("features", "classes")):
            raise UserError(f"{self._folder / 'classifier.json'} does not describe a digits classifier", _HINT)
        return found


def _check(images: Tensor) -> None:
    expected = f"(N, 1, {SIZE}, {SIZE}) uint8"
    if images.ndim != 4 or tuple(images.shape[1:]) != (1, SIZE, SIZE) or images.dtype != torch.uint8:
        found = f"{tuple(images.shape)} {str(images.dtype).removeprefix('torch.')}"
        raise UserError(
            f"the features 'digits' expect images {expected}, got {found}",
            "use them with the model 'digits', or choose features made for this model's images",
        )
