"""PTQD: the quantized network's predictions corrected while sampling, and less fresh noise where its error adds noise.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from pydantic import Field

from ptqbench import Component, Options, hookimpl

PAPER = "He et al., PTQD: Accurate Post-Training Quantization for Diffusion Models, NeurIPS 2023, arXiv:2305.10657"


class PtqdOptions(Options):
    """Options of the sampler hook `ptqd`."""

    slope: bool = Field(True, description="divide by 1 + k: the part of the error that follows the prediction")
    bias: bool = Field(True, description="subtract each channel's mean error")
    variance: bool = Field(True, description="take the variance of what remains out of the sampler's noise (eta > 0)")
    trajectories: int = Field(1024, ge=2, description="trajectories that it is fitted on, at most as many as the recipe has")
    compat: bool = Field(
        False,
        description="as released: bias of the whole error instead of what the slope leaves, deviation per sample with "
        "the bias in it, and the reduced noise in the direction's factor too",
    )


@hookimpl
def ptqbench_components() -> list[Component]:
    """The sampler hook `ptqd`."""
    return [
        Component(
            "sampler-hook",
            "ptqd",
            "correct slope and bias of the quantization error at each step, and calibrate the variance of the sampler",
            "ptqbench_ptqd.hook:Ptqd",
            PtqdOptions,
            paper=PAPER,
            deviations=("bits are the same at all steps; the paper can choose them for each (step-aware mixed precision)",),
            unstated=(
                "how bias, remaining deviation and direction are derived; by this program, from the paper's model of the error",
            ),
            released=(
                "takes the bias of the whole error, the deviation within each sample, and the reduced noise in the direction's "
                "factor too (compat = true)",
                "measures the error on trajectories of its own; here on those of calibration, where the remaining noise is "
                "likely smaller than on new images",
            ),
        ),
    ]
