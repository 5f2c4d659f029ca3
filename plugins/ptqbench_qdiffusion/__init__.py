"""Q-Diffusion: calibration at evenly spaced steps, and separate grids for the two halves of a skip concatenation.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ptqbench import Component, Options, hookimpl
from ptqbench.plugin.steps import StepCount

PAPER = "Li et al., Q-Diffusion: Quantizing Diffusion Models, ICCV 2023, arXiv:2302.04304"


class StrideOptions(Options):
    """Options of the sampler `stride`."""

    points: StepCount | Literal["all"] = Field(
        20, description='number of sampling steps that samples are taken from, or "all" for every step'
    )
    compat: bool = Field(
        False,
        description="as released: every (S // points)-th step, which may be more than `points` and leaves out the last one, "
        "and the first trajectories in the order of steps instead of random ones in random order",
    )


class SplitOptions(Options):
    """Options of the pass `skip-split`."""

    required: bool = Field(True, description="fail if no layer reads a concatenation, instead of changing nothing")


@hookimpl
def ptqbench_components() -> list[Component]:
    """The sampler `stride` and the pass `skip-split`."""
    return [
        Component(
            "sampler",
            "stride",
            "equally many samples at evenly spaced sampling steps, the first and the last among them",
            "ptqbench_qdiffusion.sampler:StrideSampler",
            StrideOptions,
            paper=PAPER,
            released=(
                "leaves out the last sampling step, may take more steps than `points`, and takes the first trajectories in the "
                "order of steps (compat = true)",
            ),
        ),
        Component(
            "pass",
            "skip-split",
            "layers that read a concatenation get a weight and an activation grid for each part of it",
            "ptqbench_qdiffusion.split:SkipSplit",
            SplitOptions,
            paper=PAPER,
            released=(
                "leaves the second part out of the rounding regulariser; here all parts are regularised",
                "names the shortcuts of decoder blocks; here any layer that reads a concatenation, on UNets the same ones",
            ),
        ),
    ]
