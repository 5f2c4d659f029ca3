"""The plain choices: rounding to nearest, fixed activation grids, random samples, eight bits at both ends.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from pydantic import Field

from ptqbench import Component, Options, hookimpl

WHITE_PAPER = "Krishnamoorthi, Quantizing deep convolutional networks for efficient inference, arXiv:1806.08342"


class EndsOptions(Options):
    """Options of the pass `first-last-8bit`."""

    bits: int = Field(8, ge=2, le=8, description="fewest bits of the first and last layers' weights and activations")


@hookimpl
def ptqbench_weight_quantizers() -> list[Component]:
    """The weight quantizer `nearest`."""
    summary = "round weights to the nearest point of a uniform grid"
    return [Component("nearest", summary, "ptqbench.quant.uniform:UniformQuantizer", paper=WHITE_PAPER)]


@hookimpl
def ptqbench_activation_quantizers() -> list[Component]:
    """The activation quantizer `affine`."""
    summary = "uniform grid with scale and zero point fixed after calibration"
    return [Component("affine", summary, "ptqbench.quant.uniform:UniformQuantizer", paper=WHITE_PAPER)]


@hookimpl
def ptqbench_samplers() -> list[Component]:
    """The sampler `random`."""
    summary = "uniformly random (trajectory, step) pairs without replacement"
    return [Component("random", summary, "ptqbench_nearest.sampler:RandomSampler")]


@hookimpl
def ptqbench_passes() -> list[Component]:
    """The pass `first-last-8bit`."""
    summary = "at least 8 bits for the layers that read the denoiser's input and for the last executed layer"
    return [
        Component(
            "first-last-8bit",
            summary,
            "ptqbench_nearest.ends:FirstLastPass",
            EndsOptions,
            paper="Li et al., BRECQ, ICLR 2021",
            deviations=(
                "first and last by execution; released PTQ4DM and EDA-DM take the first registered layer, "
                "which is a linear layer of the time embedding",
            ),
        )
    ]
