"""The model source "diffusers"."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ptqbench.digest import fingerprint, version_of
from ptqbench.roles.model import Conditions, DiffusionModel, ModelSource
from ptqbench_diffusers import DiffusersOptions
from ptqbench_diffusers.conditions import conditions_of
from ptqbench_diffusers.encoders import ADDED
from ptqbench_diffusers.hub import find_pipeline
from ptqbench_diffusers.layout import PipelineFolder
from ptqbench_diffusers.networks import (
    LatentDecoder,
    clamp,
    image_shape,
    image_tokens,
    is_packed,
    latent_scale,
    latent_shape,
    latent_shift,
    load_network,
)
from ptqbench_diffusers.noise import read_noise
from ptqbench_diffusers.reference import read_reference, reference_files
from ptqbench_diffusers.text import TextContext, read_prompts


def call(denoiser: nn.Module, x: Tensor, t: Tensor, cond: Conditions) -> Tensor:
    """The denoiser's output (N, C or 2 C, H, W) for x (N, C, H, W) and t (N,); `cond` are arguments of its forward,
    some of them in a dictionary of their own."""
    added = {name: value for name, value in cond.items() if name in ADDED}
    told: dict[str, Any] = {name: value for name, value in cond.items() if name not in ADDED}
    out: Tensor = denoiser(x, timestep=t, **told, **({"added_cond_kwargs": added} if added else {})).sample
    return out


def call_packed(denoiser: nn.Module, x: Tensor, t: Tensor, cond: Conditions) -> Tensor:
    """As `call`, of Flux: each position of x is a token that knows its row and column, those of the text have none."""
    height, width = x.shape[2:]
    place = torch.arange(height * width, dtype=torch.float32, device=x.device)
    image = torch.stack([torch.zeros_like(place), (place / width).floor(), place % width], dim=1)
    text = torch.zeros(cond["encoder_hidden_states"].shape[1], 3, dtype=torch.float32, device=x.device)
    tokens = x.flatten(2).transpose(1, 2)  # a view, so that who looks for the layer that reads x finds it
    out: Tensor = denoiser(tokens, timestep=t / 1000, img_ids=image, txt_ids=text, **cond).sample
    return out.transpose(1, 2).unflatten(2, (height, width))


class DiffusersSource(ModelSource):
    """A denoiser, its noise schedule and its decoder from a pipeline that diffusers saved."""

    options: DiffusersOptions

    def __init__(self, options: DiffusersOptions) -> None:
        super().__init__(options)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over weights, configurations, prompts and reference images, wherever they lie, options that change
        images, and the version of the package that encodes prompts, where there are encoders.

        Raises `UserError` if a file is missing. Reference images count because metrics depend on them.
        """
        folder = self._folder()
        files = dict(folder.files)
        if self._reference is not None:
            files |= {f"reference/{name}": path for name, path in reference_files(self._reference).items()}
        options = self.options
        if options.prompts:
            files["prompts"] = Path(options.prompts)
            read_prompts(files["prompts"])  # a file that cannot be read has a message of its own
        chosen = [fingerprint(files), options.labels, options.null_class, options.latent_scale, options.dtype]
        chosen += [version_of("transformers")] if folder.texts else []
        chosen += [options.size] if options.size is not None else []
        return hashlib.sha256(json.dumps(chosen).encode()).hexdigest()

    def load(self, device: torch.device) -> DiffusionModel:
        """The model in eval mode, float32, gradients off. Raises `UserError` if files are missing or do not fit."""
        folder = self._folder()
        image_shape(folder)  # refuses parts that do not fit before any weights are read
        noise = read_noise(folder.scheduler, flow=folder.flow, tokens=image_tokens(folder))
        conditions, branches = conditions_of(folder, self.options, device)
        decoder = clamp
        if folder.autoencoder is not None:
            scale = latent_scale(folder.autoencoder, self.options.latent_scale)
            network = load_network(folder.autoencoder, device, getattr(torch, self.options.dtype))
            decoder = LatentDecoder(network, scale, latent_shift(folder.autoencoder), is_packed(folder))
        return DiffusionModel(
            denoiser=load_network(folder.denoiser, device),
            call=call_packed if is_packed(folder) else call,
            alphas_cumprod=noise.alphas_cumprod,
            shape=latent_shape(folder),
            decode=decoder,
            conditions=conditions,
            prediction=noise.prediction,
            branches=branches,
            embedded_guidance=bool(folder.denoiser.config.get("guidance_embeds")),
            prompts=conditions.prompts if isinstance(conditions, TextContext) else (),
        )

    def reference_images(self) -> Tensor | None:
        """The images that the option `reference` names, uint8 (N, C, H, W), read once; None without it.

        Raises `UserError` if one is unreadable or not of the model's size.
        """
        return self._images

    @cached_property
    def _images(self) -> Tensor | None:
        return None if self._reference is None else read_reference(self._reference, image_shape(self._folder()))

    @property
    def _reference(self) -> Path | None:
        return Path(os.path.expanduser(self.options.reference)) if self.options.reference else None

    def _folder(self) -> PipelineFolder:
        options = self.options
        found = find_pipeline(options.path, options.revision, options.unet, options.variant)
        return dataclasses.replace(found, size=options.size)
