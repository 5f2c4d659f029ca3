"""Diffusion models that were saved by diffusers: pixel-space DDPM/DDIM pipelines and unconditional latent diffusion.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ptqbench import Component, Options, hookimpl
from ptqbench.plugin.paths import RecipePath, RecipePathOrId

Label = Annotated[int, Field(ge=0)]


class DiffusersOptions(Options):
    """Options of the model `diffusers`."""

    path: RecipePathOrId = Field(
        min_length=1, description="folder of a saved pipeline (relative to the recipe), or a hub id (OWNER/NAME)"
    )
    revision: str = Field("", description="branch, tag or commit of a hub id; empty for its main branch")
    unet: str = Field("unet", min_length=1, description="subfolder that holds the denoiser, for example unet_ema")
    reference: RecipePath = Field(
        "",
        description="real images of the model's size for metrics @data: a folder of png files, or an .npz file "
        "with arr_0 (N, H, W, C) uint8; empty for none",
    )
    labels: Literal["balanced"] | Label = Field(
        "balanced",
        description="classes of images, if the model has any: image id modulo the number of classes, or one class",
    )
    latent_scale: float | None = Field(
        None, gt=0, description="factor between latents and the autoencoder's codes, instead of its scaling_factor"
    )
    dtype: Literal["float32"] = Field("float32", description="precision of weights and activations before quantization")


@hookimpl
def ptqbench_components() -> list[Component]:
    """The model `diffusers`."""
    return [
        Component(
            "model",
            "diffusers",
            "a pipeline saved by diffusers: DDPM and DDIM in pixel space, unconditional latent diffusion (LDM)",
            "ptqbench_diffusers.source:DiffusersSource",
            DiffusersOptions,
        ),
    ]
