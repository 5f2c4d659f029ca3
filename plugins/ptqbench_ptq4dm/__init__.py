"""PTQ4DM: calibration at normally distributed sampling steps.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from pydantic import Field

from ptqbench import Component, Options, hookimpl

PAPER = "Shang et al., Post-training Quantization on Diffusion Models, CVPR 2023, arXiv:2211.15736"


class NormalOptions(Options):
    """Options of the sampler `normal`."""

    mean: float = Field(0.4, ge=0.0, le=1.0, description="mean of the timestep, as a share of the steps; 0 is the clean end")
    std: float = Field(0.4, gt=0.0, le=10.0, description="standard deviation of the timestep, as a share of the steps")
    compat: bool = Field(
        False,
        description="as released: the number k as the timestep, with the state after k + 1 steps from the noisy end",
    )


@hookimpl
def ptqbench_components() -> list[Component]:
    """The sampler `normal`."""
    return [
        Component(
            "sampler",
            "normal",
            "samples at normally distributed steps, each trajectory used once before any is used again",
            "ptqbench_ptq4dm.sampler:NormalSampler",
            NormalOptions,
            paper=PAPER,
            deviations=("trajectories are reused where there are more samples than trajectories; the paper runs one for each",),
            unstated=(
                "mean and spread of the timestep, beyond the preference for small ones; 0.4 and 0.4, as in the released script",
            ),
            released=("pairs a timestep with the state that belongs to another (compat = true)",),
        ),
    ]
