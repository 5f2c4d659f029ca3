"""The feature extractor "inception"."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ptqbench.errors import UserError
from ptqbench.roles.features import POOL, PROBABILITIES, SPATIAL, FeatureExtractor
from ptqbench_inception import InceptionOptions
from ptqbench_inception.network import CLASSES, POOL_WIDTH, SPATIAL_WIDTH, build_network, run, to_input
from ptqbench_inception.weights import OFFICIAL, check_weights, find_weights, read_weights

CHUNK = 32
"""Images per forward pass, whatever the caller's batches are."""
PROTOCOL = "pytorch-fid: /255, bilinear 299, 2x-1; spatial: Mixed_6d branch 1, NHWC, 7 channels; logits without bias"


class InceptionFeatures(FeatureExtractor):
    """Pooled and spatial features and class probabilities of the 2015 Inception network.

    With any other file of weights than the official one it is an extractor among others, and numbers carry its name.
    """

    options: InceptionOptions

    def __init__(self, options: InceptionOptions) -> None:
        super().__init__(options)
        self._device = torch.device("cpu")
        self._network: nn.Module | None = None

    @property
    def inception(self) -> bool:
        """Whether the weights that `prepare` will insist on are the official ones."""
        return self.options.sha256 in ("", OFFICIAL)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the weights' own and what is done to images. Raises `UserError` for no or another file."""
        weights = check_weights(find_weights(self.options.weights), self.options.sha256)
        return hashlib.sha256(f"{weights}\n{PROTOCOL}".encode()).hexdigest()

    def outputs(self) -> Mapping[str, int]:
        """2048 pooled features, 2023 spatial ones, 1008 probabilities."""
        return {POOL: POOL_WIDTH, SPATIAL: SPATIAL_WIDTH, PROBABILITIES: CLASSES}

    def prepare(self, device: torch.device) -> None:
        """Load the weights onto `device`. Raises `UserError` if the file is missing, another one, or does not fit."""
        path = find_weights(self.options.weights)
        check_weights(path, self.options.sha256)
        network = build_network()
        try:
            network.load_state_dict(read_weights(path))
        except RuntimeError as error:
            raise UserError(
                f"{path} does not fit the Inception network: {next(iter(str(error).splitlines()), '')}",
                "use weights of the network that pytorch-fid builds, with 1008 classes and no auxiliary head",
            ) from error
        self._network, self._device = network.to(device), device

    @torch.inference_mode()
    def extract(self, images: Tensor) -> Mapping[str, Tensor]:
        """ "pool", "spatial" and "probabilities", float32 on the CPU, of images (N, 1 or 3, H, W) uint8 of any size.

        Raises `UserError` for other images.
        """
        if self._network is None:
            raise RuntimeError("call prepare(device) before extracting features")
        if images.ndim != 4 or images.shape[1] not in (1, 3) or images.dtype != torch.uint8:
            found = f"{tuple(images.shape)} {str(images.dtype).removeprefix('torch.')}"
            raise UserError(
                f"the features 'inception' expect images (N, 1 or 3, H, W) uint8, got {found}", "choose other features"
            )
        parts = {name: [torch.empty(0, width)] for name, width in self.outputs().items()}
        for chunk in images.split(CHUNK) if len(images) else ():
            for name, values in run(self._network, to_input(chunk.to(self._device))).items():
                parts[name].append(values.cpu())
        return {name: torch.cat(values) for name, values in parts.items()}
