"""TDQ: activation step sizes that a small network computes from the sampling step, tabulated once they are learned.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ptqbench import Component, Options, hookimpl

PAPER = "So et al., Temporal Dynamic Quantization for Diffusion Models, NeurIPS 2023, arXiv:2306.02316"


class TdqOptions(Options):
    """Options of the activation quantizer `tdq`. None of the network's sizes was found in a source."""

    base: Literal["shared", "each"] = Field(
        "shared",
        description="what the network's output multiplies: one scale that spans the ranges of all steps, so that everything "
        "that changes over time is the network's doing, or the scale observed at each step",
    )
    hidden: int = Field(64, ge=1, le=4096, description="width of the hidden layers (not found in the source)")
    layers: int = Field(2, ge=1, le=8, description="number of hidden layers (not found in the source)")
    frequencies: int = Field(
        4, ge=1, le=16, description="sine and cosine pairs that encode a step's position (not found in the source)"
    )


@hookimpl
def ptqbench_components() -> list[Component]:
    """The activation quantizer `tdq`."""
    return [
        Component(
            "activation-quantizer",
            "tdq",
            "step sizes as a learned smooth function of the sampling step, tabulated for inference",
            "ptqbench_tdq.quantizer:TimeDynamicStep",
            TdqOptions,
            paper=PAPER,
            deviations=("the network reads the position of a group of sampling steps, not the timestep",),
            unstated=(
                "depth, width, activation function and code of the network; two layers of 64 with SiLU, and four frequencies",
                "how the network starts; it multiplies an observed scale, by exactly 1, from the same weights in all layers",
                "what becomes of zero points; they stay as the range estimator found them",
            ),
            traits=frozenset({"learned"}),
        ),
    ]
