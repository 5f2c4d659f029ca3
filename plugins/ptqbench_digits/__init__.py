"""Handwritten digits: a small diffusion model, features to judge its images, and the command that trains both.

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
    """The model and the features `digits`."""
    denoiser = "unconditional DDPM of 16x16 handwritten digits, 1.1 M parameters, shipped with its weights"
    classifier = "64 penultimate activations of a digit classifier on 16x16 images; distances on them are not FID"
    return [
        Component("model", "digits", denoiser, "ptqbench_digits.source:DigitsSource", DigitsOptions),
        Component("features", "digits", classifier, "ptqbench_digits.features:DigitsFeatures", DigitsOptions),
    ]


@hookimpl
def ptqbench_commands() -> list[click.Command]:
    """The group `ptqbench digits`."""
    from ptqbench_digits.commands import digits

    return [digits]
