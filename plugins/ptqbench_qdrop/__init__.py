"""QDrop: weights and activation step sizes learned together, with quantization dropped at random.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ptqbench import Component, Options, hookimpl

PAPER = (
    "Wei et al., QDrop: Randomly Dropping Quantization for Extremely Low-bit Post-Training Quantization, ICLR 2022, "
    "arXiv:2203.05740"
)


class QDropOptions(Options):
    """Options of the reconstruction `qdrop`; the defaults are the published constants."""

    iterations: int = Field(20_000, ge=1, description="optimiser steps per unit")
    rounding_rate: float = Field(1e-3, gt=0, description="Adam's learning rate for the rounding variables")
    rounding_decay: Literal["none", "cosine"] = Field(
        "none", description='"cosine" takes the rounding rate to zero as well, as EDA-DM does'
    )
    step_rate: float = Field(4e-5, gt=0, description="Adam's learning rate for the step sizes, cosine to zero")
    batch: int = Field(32, ge=1, description="samples per mini-batch, drawn without replacement at each step")
    input_keep: float = Field(
        0.5,
        ge=0,
        le=1,
        description="probability that an element of a unit's input is the quantized network's, not full precision's",
    )
    activation_keep: float = Field(
        0.5, ge=0, le=1, description="probability that an activation element inside the unit stays quantized"
    )
    power: float = Field(2.0, ge=1, description="exponent of the loss")


@hookimpl
def ptqbench_components() -> list[Component]:
    """The reconstruction `qdrop`."""
    return [
        Component(
            "reconstruction",
            "qdrop",
            "blocks: rounding and activation step sizes together, quantization of activations dropped at random",
            "ptqbench_qdrop.reconstruction:QDrop",
            QDropOptions,
            paper=PAPER,
            deviations=("inputs with fewer than three axes (time embeddings) are never mixed, as in the code of EDA-DM",),
            released=(
                "draws mini-batches with replacement; here without",
                "can learn zero points too (LSQ+); here they are fixed",
            ),
            defaults={"partitioner": "blocks"},
        ),
    ]
