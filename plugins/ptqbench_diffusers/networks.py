"""Loading denoiser and autoencoder, and the shapes that their configurations promise."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ptqbench.errors import UserError
from ptqbench_diffusers.layout import CONFIG, FLUX, Network, PipelineFolder

CHUNK = 16
"""Latents decoded at a time, whatever the caller's batches are: images take far more memory than latents."""

Shape = tuple[int, int, int]


def load_network(network: Network, device: torch.device, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The network in eval mode, gradients off. Raises `UserError` if weights and configuration do not fit."""
    import diffusers  # slow to import: only when a model is loaded

    _one_precision(network)
    hint = "save the network again with `save_pretrained`, or download it anew"
    try:
        with _quiet():
            loaded, found = getattr(diffusers, network.class_name).from_pretrained(
                str(network.folder),
                variant=network.variant or None,
                use_safetensors=True,
                local_files_only=True,
                low_cpu_mem_usage=False,
                output_loading_info=True,
            )
    except Exception as error:  # diffusers raises many kinds for files that do not fit
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"cannot load {network.class_name} from {network.folder}: {reason}", hint) from error
    absent = [*found["missing_keys"], *found["mismatched_keys"]]
    if absent:
        # diffusers would go on with random numbers in their place.
        raise UserError(f"{network.folder} lacks {len(absent)} of its network's tensors, first {absent[0]}", hint)
    return prepared(cast(nn.Module, loaded), network.folder, device, dtype)


def _one_precision(network: Network) -> None:
    """Raises `UserError` for weights of several precisions: part of them was converted, and nobody knows what that changed."""
    found: set[str] = set()
    for path in network.weights:
        if path.suffix == ".safetensors":
            try:
                with safe_open(path, framework="pt") as file:
                    found |= {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 (it is no mapping)
            except SafetensorError:
                return  # loading it says what is wrong
    floating = sorted(kind for kind in found if kind.startswith(("F", "BF")))
    if len(floating) > 1:
        raise UserError(
            f"{network.folder} holds weights of several precisions: {', '.join(floating)}",
            "save the network again in one of them, or download it anew",
        )


def prepared(network: nn.Module, folder: Path, device: torch.device, dtype: torch.dtype = torch.float32) -> nn.Module:
    """In eval mode, of one precision, gradients off, on the device. Raises `UserError` for weights that are not finite."""
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{folder}: {name} holds values that are not finite", "download or convert the network anew")
    with _quiet():
        return network.to(dtype).eval().requires_grad_(False).to(device)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides diffusers' own warnings about weights: what matters of them is checked and raised."""
    logger = logging.getLogger("diffusers.models.modeling_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


PACKED = 2
"""The side of the patches of latents that are one token of Flux."""
FLUX_SIZE = 1024


def latent_shape(folder: PipelineFolder) -> Shape:
    """What the denoiser works on, (C, H, W). Raises `UserError` if the configuration does not say."""
    denoiser = folder.denoiser
    if is_packed(folder):
        return _packed_shape(folder)
    if folder.size is not None:
        raise UserError(f"the model in {folder.root} has an image size of its own", "leave model.size out")
    config, path = denoiser.config, denoiser.folder / CONFIG
    channels = config.get("in_channels", 3)
    out = config.get("out_channels", 3) or channels
    size: Any = config.get("sample_size")
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(isinstance(n, int) and n > 0 for n in sides):
        raise UserError(f"{path}: sample_size is {size}, so the size of images is unknown", "write it there, e.g. 32")
    if not isinstance(channels, int) or out not in (channels, 2 * channels):
        raise UserError(
            f"{path}: {channels} input and {out} output channels do not make a denoiser",
            "output channels must be equal to or (with a learned variance) twice the input channels",
        )
    return channels, sides[0], sides[1]


def is_packed(folder: PipelineFolder) -> bool:
    """Whether the denoiser works on patches of latents, as Flux does."""
    return folder.denoiser.class_name in FLUX


def _packed_shape(folder: PipelineFolder) -> Shape:
    """Patches of the latents of an image whose size is chosen; their elements are channels."""
    path, config = folder.denoiser.folder / CONFIG, folder.denoiser.config
    channels = config.get("in_channels")
    if not isinstance(channels, int) or channels % PACKED**2 or config.get("out_channels") not in (None, channels):
        raise UserError(
            f"{path}: {channels} input channels do not make a denoiser of patches of {PACKED}x{PACKED}",
            "only FLUX.1-dev and FLUX.1-schnell are supported, not models that are told an image too",
        )
    size, patch = folder.size or FLUX_SIZE, PACKED * _magnification(folder)
    if size % patch:
        raise UserError(f"images of {size}x{size} cannot be cut into patches", f"set model.size to a multiple of {patch}")
    return channels, size // patch, size // patch


def _magnification(folder: PipelineFolder) -> int:
    """How much larger an image's side is than its latent's: each level of the decoder but the last doubles it."""
    assert folder.autoencoder is not None
    return int(2 ** (len(folder.autoencoder.config.get("block_out_channels", [64])) - 1))


def image_shape(folder: PipelineFolder) -> Shape:
    """What the model generates, (C, H, W). Raises `UserError` if autoencoder and denoiser do not fit."""
    shape = latent_shape(folder)
    if folder.autoencoder is None:
        return shape
    config, side = folder.autoencoder.config, PACKED if is_packed(folder) else 1
    codes, channels = config.get("vq_embed_dim") or config.get("latent_channels"), shape[0] // side**2
    if codes is not None and codes != channels:
        raise UserError(
            f"{folder.root}: the autoencoder reads {codes} channels, the denoiser has {channels}",
            "take both from the same pipeline",
        )
    factor = side * _magnification(folder)
    return config.get("out_channels", 3), shape[1] * factor, shape[2] * factor


def image_tokens(folder: PipelineFolder) -> int:
    """How many tokens a transformer makes of an image."""
    _, height, width = latent_shape(folder)
    patch = 1 if is_packed(folder) else int(folder.denoiser.config.get("patch_size") or 1)
    return (height // patch) * (width // patch)


def clamp(x0: Tensor) -> Tensor:
    """Decoder of models in pixel space: images are the final states."""
    return x0.clamp(-1.0, 1.0)


@dataclass(frozen=True)
class LatentDecoder:
    """Decodes latents as diffusers' pipelines do: unpacked, divided by the scale, shifted, then through the autoencoder."""

    autoencoder: nn.Module
    scale: float
    shift: float = 0.0
    packed: bool = False

    @torch.no_grad()
    def __call__(self, x0: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] of latents x0 (N, c, h, w)."""
        decode, dtype = cast(Any, self.autoencoder).decode, next(self.autoencoder.parameters()).dtype
        if self.packed:
            x0 = F.pixel_shuffle(x0, PACKED)
        codes = ((piece / self.scale + self.shift).to(dtype) for piece in torch.split(x0, CHUNK))
        return torch.cat([decode(code).sample.to(x0.dtype).clamp(-1.0, 1.0) for code in codes])


def latent_scale(autoencoder: Network, chosen: float | None) -> float:
    """The factor between latents and the autoencoder's codes. Raises `UserError` if nobody states it.

    diffusers assumes 0.18215 for a file without it, which is wrong for the VQ models of latent diffusion.
    """
    scale = autoencoder.config.get("scaling_factor") if chosen is None else chosen
    if isinstance(scale, bool) or not isinstance(scale, int | float) or scale <= 0:
        raise UserError(
            f"{autoencoder.folder / CONFIG} does not state a scaling_factor",
            "set model.latent_scale: 1.0 for the VQ models of CompVis' latent diffusion, "
            "else the factor that latents were multiplied with in training",
        )
    return float(scale)


def latent_shift(autoencoder: Network) -> float:
    """What is added to codes before decoding. Raises `UserError` for statistics by channel, which nothing here applies."""
    config = autoencoder.config
    if config.get("latents_mean") is not None or config.get("latents_std") is not None:
        path = autoencoder.folder / CONFIG
        raise UserError(f"{path}: latents_mean and latents_std are not supported", "use a model with one scaling_factor")
    return float(config.get("shift_factor") or 0.0)
