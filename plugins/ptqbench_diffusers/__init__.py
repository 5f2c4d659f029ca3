"""Diffusion models that were saved by diffusers: in pixel space, latent, class-conditional, transformers, told by text.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ptqbench import Component, Options, hookimpl
from ptqbench.plugin.paths import RecipePath, RecipePathOrId

if TYPE_CHECKING:
    import click

Label = Annotated[int, Field(ge=0)]


class DiffusersOptions(Options):
    """Options of the model `diffusers`."""

    path: RecipePathOrId = Field(
        min_length=1, description="folder of a saved pipeline (relative to the recipe), or a hub id (OWNER/NAME)"
    )
    revision: str = Field("", description="branch, tag or commit of a hub id; empty for its main branch")
    unet: str = Field("", description="subfolder that holds the denoiser, for example unet_ema; empty for the pipeline's own")
    variant: str = Field("", description='weights of another precision, for example "fp16", for the parts that have them')
    reference: RecipePath = Field(
        "",
        description="real images of the model's size for metrics @data: a folder of png files, or an .npz file "
        "with arr_0 (N, H, W, C) uint8; empty for none",
    )
    labels: Literal["balanced"] | Label = Field(
        "balanced",
        description="classes of images, if the model has any: image id modulo the number of classes, or one class for all",
    )
    null_class: Label | None = Field(
        None, description="the class that stands for none, which guidance needs; if left out, what the pipeline says"
    )
    prompts: RecipePath = Field(
        "",
        description="text file with one prompt a line, needed for text-to-image: images take them from the first line on, "
        "trajectories from the last one backwards",
    )
    latent_scale: float | None = Field(
        None, gt=0, description="factor between latents and the autoencoder's codes, instead of its scaling_factor"
    )
    size: int | None = Field(
        None, ge=16, description="side of images in pixels, where the denoiser leaves it open: of Flux, 1024 if left out"
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="precision of autoencoder and text encoders, which are never quantized; the denoiser has float32"
    )


class RandomOptions(Options):
    """Options of the model `random-pipeline`."""

    kind: Literal[
        "ddpm",
        "ddpm-cifar10",
        "ldm",
        "ldm-class",
        "dit",
        "stable-diffusion",
        "stable-diffusion-2",
        "stable-diffusion-xl",
        "pixart",
        "pixart-alpha",
        "stable-diffusion-3",
        "flux",
    ] = Field(description="the architecture")
    seed: int = Field(0, ge=0, description="seed of the weights")


@hookimpl
def ptqbench_components() -> list[Component]:
    """The models `diffusers` and `random-pipeline`."""
    return [
        Component(
            "model",
            "diffusers",
            "a pipeline saved by diffusers: DDPM, latent diffusion (LDM), DiT, PixArt, Flux, Stable Diffusion 1.x to 3.x",
            "ptqbench_diffusers.source:DiffusersSource",
            DiffusersOptions,
        ),
        Component(
            "model",
            "random-pipeline",
            "a small pipeline with random weights, built like CIFAR-10's DDPM, LDM-4, DiT, PixArt, Stable Diffusion, Flux",
            "ptqbench_diffusers.random_source:RandomSource",
            RandomOptions,
        ),
    ]


@hookimpl
def ptqbench_commands() -> list[click.Command]:
    """The group `ptqbench diffusers`."""
    from ptqbench_diffusers.commands import diffusers

    return [diffusers]
