"""LSQ: learned step sizes of activations.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ptqbench import Component, Options, hookimpl


class LsqOptions(Options):
    """Options of the activation quantizer `lsq`."""

    gradient_scale: Literal["none", "lsq"] = Field(
        "none", description='"lsq" divides the gradient of a scale by sqrt(values that share it * (levels - 1))'
    )


@hookimpl
def ptqbench_components() -> list[Component]:
    """The activation quantizer `lsq`."""
    return [
        Component(
            "activation-quantizer",
            "lsq",
            "learn the scale of a uniform activation grid",
            "ptqbench_lsq.quantizer:LearnedStep",
            LsqOptions,
            paper="Esser et al., Learned Step Size Quantization, ICLR 2020, arXiv:1902.08153",
            deviations=(
                "the optimiser moves the logarithm of a scale, so that its rate is a share of the scale",
                'gradients are not scaled, as in the code of BRECQ and Q-Diffusion (gradient_scale = "lsq" scales them)',
                "scales start from the range estimator, not from the mean magnitude",
                "grids may have a zero point, which stays as the range estimator found it",
            ),
            traits=frozenset({"learned"}),
        ),
    ]
