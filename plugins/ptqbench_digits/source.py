"""The model sources "digits", "digits-conditional", "digits-dit" and "digits-latent"."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ptqbench.errors import UserError
from ptqbench.roles.model import COND, UNCOND, Conditions, DiffusionModel, ModelSource
from ptqbench_digits import DigitsOptions, bundle
from ptqbench_digits.data import CLASSES, SIZE, digit_images
from ptqbench_digits.networks import NULL_CLASS, LatentDigits, alphas_cumprod, build_network


def call(denoiser: nn.Module, x: Tensor, t: Tensor, cond: Conditions) -> Tensor:
    """Noise prediction (N, C, H, W) for x (N, C, H, W) and t (N,) int64; `cond` may hold the class, as label or as context."""
    noise: Tensor = denoiser(x, t, **cond).sample
    return noise


def decode(x0: Tensor) -> Tensor:
    """The model works on pixels: images are the final latents, clamped to [-1, 1]."""
    return x0.clamp(-1.0, 1.0)


def labels(ids: Sequence[int], branch: str) -> Conditions:
    """Image i shows the digit i modulo 10; the unconditional branch has the null class."""
    shown = [i % CLASSES if branch == COND else NULL_CLASS for i in ids]
    return {"class_labels": torch.tensor(shown, dtype=torch.int64)}


@dataclasses.dataclass(frozen=True)
class ClassContext:
    """The same for a denoiser that attends to one token for the class; `table` (11, D) has them."""

    table: Tensor

    def __call__(self, ids: Sequence[int], branch: str) -> Conditions:
        """As the denoiser's argument, (N, 1, D)."""
        return {"encoder_hidden_states": self.table[labels(ids, branch)["class_labels"]][:, None]}


def read_network(folder: Path, name: str) -> tuple[nn.Module, Tensor]:
    """A bundle's network in eval mode, float32, gradients off, and its schedule. Raises `UserError` as `load` does."""
    config = bundle.read_config(folder, name)
    try:
        network = build_network(config["network"])
        alphas = alphas_cumprod(config["schedule"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / name}.json does not describe a digits denoiser: {error}",
            "use a file that `ptqbench digits train` wrote, unchanged",
        ) from error
    return bundle.load_weights(network, folder, name), alphas


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
        network, alphas = read_network(self._folder, self.bundle)
        return DiffusionModel(
            denoiser=network.to(device),
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


class TransformerSource(ConditionalSource):
    """A diffusion transformer of the same digits."""

    bundle = bundle.TRANSFORMER


class LatentSource(DigitsSource):
    """A denoiser of the digits' latents, which attends to a token for the digit."""

    bundle = bundle.LATENT

    def load(self, device: torch.device) -> DiffusionModel:
        """The denoiser with its two branches, and its autoencoder as decoder. Raises `UserError` as the others do."""
        whole = super().load(device)
        network = cast(LatentDigits, whole.denoiser)
        return dataclasses.replace(
            whole,
            denoiser=network.unet,
            shape=network.shape,
            decode=network.decode,
            conditions=ClassContext(network.embedder.weight.cpu()),
            branches=(COND, UNCOND),
        )


SOURCES: dict[str, type[DigitsSource]] = {
    source.bundle: source for source in (DigitsSource, ConditionalSource, TransformerSource, LatentSource)
}
"""The source of each bundle."""
