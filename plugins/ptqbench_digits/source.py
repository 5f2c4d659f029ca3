"""The model source "digits"."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ptqbench.errors import UserError
from ptqbench.roles.model import Conditions, DiffusionModel, ModelSource
from ptqbench_digits import DigitsOptions, bundle
from ptqbench_digits.data import SIZE, digit_images
from ptqbench_digits.unet import alphas_cumprod, build_unet


def predict(denoiser: nn.Module, x: Tensor, t: Tensor, cond: Conditions) -> Tensor:
    """Noise prediction (N, 1, 16, 16) for x (N, 1, 16, 16) and t (N,) int64; `cond` is not used."""
    noise: Tensor = denoiser(x, t).sample
    return noise


def decode(x0: Tensor) -> Tensor:
    """The model works on pixels: images are the final latents, clamped to [-1, 1]."""
    return x0.clamp(-1.0, 1.0)


class DigitsSource(ModelSource):
    """An unconditional denoiser of 16x16 handwritten digits, trained on the 1797 images that scikit-learn ships."""

    def __init__(self, options: DigitsOptions) -> None:
        super().__init__(options)
        self._folder = bundle.folder_of(options.folder)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over denoiser.safetensors and denoiser.json. Raises `UserError` where one is missing."""
        return bundle.fingerprint(self._folder, bundle.DENOISER)

    def load(self, device: torch.device) -> DiffusionModel:
        """The denoiser in eval mode, float32, gradients off. Raises `UserError` if files are missing or altered."""
        config = bundle.read_config(self._folder, bundle.DENOISER)
        try:
            denoiser = build_unet(config["network"])
            alphas = alphas_cumprod(config["schedule"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{self._folder / 'denoiser.json'} does not describe a digits denoiser: {error}",
                "use a file that `ptqbench digits train` wrote, unchanged",
            ) from error
        bundle.load_weights(denoiser, self._folder, bundle.DENOISER)
        return DiffusionModel(
            denoiser=denoiser.to(device),
            predict=predict,
            alphas_cumprod=alphas,
            shape=(1, SIZE, SIZE),
            decode=decode,
        )

    def reference_images(self) -> Tensor:
        """All real images, uint8 (1797, 1, 16, 16)."""
        return digit_images()
