"""Metrics that need no more than the run itself: noise-prediction error, paired image error, set distances on features.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ptqbench import Component, Options, hookimpl


class FrechetOptions(Options):
    """Options of the Frechet distance."""

    reference: Literal["data", "fp", "both"] = Field(
        "both",
        description="distance to the model's real images, to the full-precision images on the same noise, or to both "
        '("both" is "fp" alone for a model that brings no real images)',
    )


class KernelOptions(Options):
    """Options of the kernel distance."""

    reference: Literal["data", "fp", "both"] = Field(
        "data",
        description="distance to the model's real images, to the full-precision images on the same noise, or to both "
        '("both" is "fp" alone for a model that brings no real images)',
    )
    subset: int = Field(
        0, ge=0, description="images per subset, averaged over disjoint subsets; 0 compares the whole set at once"
    )


@hookimpl
def ptqbench_metrics() -> list[Component]:
    """eps-error, image-error, psnr, fd, kid."""
    return [
        Component(
            "eps-error",
            "mean squared difference of noise predictions to full precision on held-out trajectories, by timestep",
            "ptqbench_metrics.paired:NoiseError",
        ),
        Component(
            "image-error",
            "mean squared difference to the full-precision images on equal noise, pixels in 0..1",
            "ptqbench_metrics.paired:ImageError",
        ),
        Component(
            "psnr",
            "peak signal-to-noise ratio in dB against the full-precision images on equal noise",
            "ptqbench_metrics.paired:Psnr",
            deviations=("a pair that differs by less than half an 8-bit step counts as 54.15 dB, not as infinite",),
        ),
        Component(
            "fd",
            "Frechet distance on the recipe's features; never called FID, which means Inception features",
            "ptqbench_metrics.sets:FrechetDistance",
            FrechetOptions,
            paper="arXiv:1706.08500",
            deviations=("features are the recipe's, not Inception's", "the trace of the root comes from eigenvalues"),
        ),
        Component(
            "kid",
            "kernel distance (unbiased MMD^2, cubic polynomial kernel) on the recipe's features",
            "ptqbench_metrics.sets:KernelDistance",
            KernelOptions,
            paper="arXiv:1801.01401",
            deviations=(
                "features are the recipe's, not Inception's",
                "the whole set at once by default; subsets are disjoint, so that their spread gives an interval",
                "against full precision on equal noise, pairs (i, i) do not count: they are not independent",
            ),
        ),
    ]
