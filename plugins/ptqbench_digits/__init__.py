"""Handwritten digits: small diffusion models, features to judge their images, and the command that trains all of them.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ptqbench import Component, Options, hookimpl

if TYPE_CHECKING:
    import click


class DigitsOptions(Options):
    """Options of the digits model and of the digits features."""

    folder: str = Field("", description="folder that `ptqbench digits train` wrote; empty for the shipped weights")


@hookimpl
def ptqbench_components() -> list[Component]:
    """The models `digits`, `digits-conditional`, `digits-dit` and `digits-latent`, and the features `digits`."""
    denoiser = "unconditional DDPM of 16x16 handwritten digits, 1.1 M parameters, shipped with its weights"
    conditional = "the same told which digit to draw (image i: i modulo 10), with a null class for guidance, 0.9 M parameters"
    transformer = "a diffusion transformer of the same digits, conditional with a null class, 0.8 M parameters"
    latent = "latent diffusion of the same: an autoencoder, and a UNet that attends to the class or the null class"
    classifier = "64 penultimate activations of a digit classifier on 16x16 images; distances on them are not FID"
    return [
        Component("model", "digits", denoiser, "ptqbench_digits.source:DigitsSource", DigitsOptions),
        Component("model", "digits-conditional", conditional, "ptqbench_digits.source:ConditionalSource", DigitsOptions),
        Component("model", "digits-dit", transformer, "ptqbench_digits.source:TransformerSource", DigitsOptions),
        Component("model", "digits-latent", latent, "ptqbench_digits.source:LatentSource", DigitsOptions),
        Component("features", "digits", classifier, "ptqbench_digits.features:DigitsFeatures", DigitsOptions),
    ]


@hookimpl
def ptqbench_commands() -> list[click.Command]:
    """The group `ptqbench digits`."""
    from ptqbench_digits.commands import digits

    return [digits]
