"""The model sources "digits" and "digits-conditional"."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ptqbench.errors import UserError
from ptqbench.roles.model import COND, UNCOND, Conditions, DiffusionModel, ModelSource
from ptqbench_digits import DigitsOptions, bundle
from ptqbench_digits.data import CLASSES, SIZE, digit_images
from ptqbench_digits.networks import NULL_CLASS, alphas_cumprod, build_unet


def call(denoiser: nn.Module, x: Tensor, t: Tensor, cond: Conditions) -> Tensor:
    """Noise prediction (N, 1, 16, 16) for x (N, 1, 16, 16) and t (N,) int64; `cond` may hold class_labels (N,)."""
    noise: Tensor = denoiser(x, t, class_labels=cond.get("class_labels")).sample
    return noise


def decode(x0: Tensor) -> Tensor:
    """The model works on pixels: images are the final latents, clamped to [-1, 1]."""
    return x0.clamp(-1.0, 1.0)


def labels(ids: Sequence[int], branch: str) -> Conditions:
    """Image i shows the digit i modulo 10; the unconditional branch has the null class."""
    shown = [i % CLASSES if branch == COND else NULL_CLASS for i in ids]
    return {"class_labels": torch.tensor(shown, dtype=torch.int64)}


class DigitsSource(ModelSource):
    """An unconditional denoiser of 16x16 handwritten digits, trained on the 1797 images that scikit-learn ships."""

    bundle = bundle.DENOISER

    def __init__(self, options: DigitsOptions) -> None:
        super().__init__(options)
        self._folder = bundle.folder_of(options.folder)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the bundle's weights and configuration. Raises `UserError` where one is missing."""
        return bundle.fingerprint(self._folder, self.bundle)

    def load(self, device: torch.device) -> DiffusionModel:
        """The denoiser in eval mode, float32, gradients off. Raises `UserError` if files are missing or altered."""
        config = bundle.read_config(self._folder, self.bundle)
        try:
            denoiser = build_unet(config["network"])
            alphas = alphas_cumprod(config["schedule"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{self._folder / self.bundle}.json does not describe a digits denoiser: {error}",
                "use a file that `ptqbench digits train` wrote, unchanged",
            ) from error
        bundle.load_weights(denoiser, self._folder, self.bundle)
        return DiffusionModel(
            denoiser=denoiser.to(device),
            call=call,
            alphas_cumprod=alphas,
            shape=(1, SIZE, SIZE),
            decode=decode,
        )

    def reference_images(self) -> Tensor:
        """All real images, uint8 (1797, 1, 16, 16)."""
        return digit_images()


class ConditionalSource(DigitsSource):
    """A denoiser of the same digits that is told which one to draw, or (the null class) none in particular."""

    bundle = bundle.CONDITIONAL

    def load(self, device: torch.device) -> DiffusionModel:
        """The denoiser with its two branches. Raises `UserError` if files are missing or altered."""
        return dataclasses.replace(super().load(device), conditions=labels, branches=(COND, UNCOND))
