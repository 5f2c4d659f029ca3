"""The feature extractor "digits"."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ptqbench.errors import UserError
from ptqbench.roles.features import FeatureExtractor
from ptqbench_digits import DigitsOptions, bundle
from ptqbench_digits.classifier import DigitsClassifier, build_classifier
from ptqbench_digits.data import CLASSES, SIZE, to_float

CHUNK = 256
"""Images per forward pass, whatever the caller's batches are."""


class DigitsFeatures(FeatureExtractor):
    """The 64 penultimate activations of the digits classifier. A distance on them is never "FID"."""

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
        config = bundle.read_config(self._folder, bundle.CLASSIFIER)
        try:
            network = build_classifier(config["network"])
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{self._folder / 'classifier.json'} does not describe a digits classifier: {error}",
                "use a file that `ptqbench digits train` wrote, unchanged",
            ) from error
        bundle.load_weights(network, self._folder, bundle.CLASSIFIER)
        self._network, self._device = network.to(device), device

    def extract(self, images: Tensor) -> Tensor:
        """Features (N, 64) float32, on the CPU, of images (N, 1, 16, 16) uint8. Raises `UserError` for other images."""
        return self._run(images, self._ready().features, self._ready().head.in_features)

    def probabilities(self, images: Tensor) -> Tensor:
        """Class probabilities (N, 10) float32, on the CPU, of images (N, 1, 16, 16) uint8; errors as in `extract`."""
        network = self._ready()
        return self._run(images, lambda x: network(x).softmax(dim=1), CLASSES)

    def _ready(self) -> DigitsClassifier:
        if self._network is None:
            raise RuntimeError("call prepare(device) before extracting features")
        return self._network

    @torch.no_grad()
    def _run(self, images: Tensor, function: Callable[[Tensor], Tensor], width: int) -> Tensor:
        _check(images)
        if len(images) == 0:
            return torch.empty(0, width)
        parts = [function(to_float(chunk.to(self._device))).cpu() for chunk in images.split(CHUNK)]
        return torch.cat(parts)


def _check(images: Tensor) -> None:
    expected = f"(N, 1, {SIZE}, {SIZE}) uint8"
    if images.ndim != 4 or tuple(images.shape[1:]) != (1, SIZE, SIZE) or images.dtype != torch.uint8:
        found = f"{tuple(images.shape)} {str(images.dtype).removeprefix('torch.')}"
        raise UserError(
            f"the features 'digits' expect images {expected}, got {found}",
            "use them with the model 'digits', or choose features made for this model's images",
        )
