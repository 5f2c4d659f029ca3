"""Block reconstruction (BRECQ): which layers form a unit, and how a unit is fitted.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ptqbench import Component, Options, hookimpl
from ptqbench.quant.units import BLOCK_CLASSES

BRECQ = "Li et al., BRECQ: Pushing the Limit of Post-Training Quantization by Block Reconstruction, ICLR 2021"
ADAROUND = "Nagel et al., Up or Down? Adaptive Rounding for Post-Training Quantization, ICML 2020"


class BlocksOptions(Options):
    """Options of the partitioner `blocks`."""

    blocks: tuple[str, ...] = Field(
        BLOCK_CLASSES,
        strict=False,
        min_length=1,
        description="class names of modules that are fitted as a whole; of nested ones the outermost counts",
    )


class BrecqOptions(Options):
    """Options of `brecq` and `layerwise`; the defaults are the published constants."""

    iterations: int = Field(20_000, ge=1, description="optimiser steps per unit for the rounding variables")
    rounding_rate: float = Field(1e-3, gt=0, description="Adam's learning rate for the rounding variables")
    step_iterations: int = Field(5_000, ge=1, description="optimiser steps per unit for the activation step sizes")
    step_rate: float = Field(4e-4, gt=0, description="Adam's learning rate for the step sizes, cosine to zero")
    batch: int = Field(32, ge=1, description="samples per mini-batch, drawn without replacement at each step")
    power: float = Field(2.0, ge=1, description="exponent of the loss while rounding is learned")
    step_power: float = Field(2.4, ge=1, description="exponent of the loss while step sizes are learned")


class FisherOptions(Options):
    """Options of the loss term `fisher`."""

    scale: Literal["set", "sample"] = Field(
        "set", description="over what g has root mean square 1: the calibration set, or each sample, so that all count alike"
    )
    compat: bool = Field(False, description="as released: the factor of an element's error is |g| + 1 instead of g")


@hookimpl
def ptqbench_components() -> list[Component]:
    """Reconstructions `brecq`, `layerwise`, `none`; partitioners `blocks`, `layers`; loss terms `output`, `fisher`."""
    target = "ptqbench_brecq.reconstruction:TwoPhase"
    return [
        Component(
            "reconstruction",
            "brecq",
            "blocks: rounding on inputs of the network quantized so far, then activation step sizes",
            target,
            BrecqOptions,
            paper=BRECQ,
            deviations=('the loss is the plain error unless a recipe names others; the paper\'s is the loss term "fisher"',),
            released=("leaves dropout on while a unit is fitted, as do Q-Diffusion, TFMQ-DM and PTQD; here it is off",),
            defaults={"partitioner": "blocks"},
        ),
        Component(
            "reconstruction",
            "layerwise",
            "AdaRound layer by layer: the same two phases with every layer as its own unit",
            target,
            BrecqOptions,
            paper=ADAROUND,
            deviations=(
                "the loss is taken before the activation function, which diffusion blocks apply elsewhere",
                "activation step sizes are learned as well, where their quantizer can learn",
            ),
            defaults={"partitioner": "layers"},
        ),
        Component(
            "reconstruction",
            "none",
            "round to nearest: nothing is fitted",
            "ptqbench_brecq.reconstruction:Nothing",
            traits=frozenset({"closed-form"}),
        ),
        Component(
            "partitioner",
            "blocks",
            "residual, attention and transformer blocks as units, every other layer on its own, in execution order",
            "ptqbench_brecq.partition:Blocks",
            BlocksOptions,
            paper=BRECQ,
            released=("fits units in the order of registration, in Q-Diffusion's CIFAR-10 network not that of execution",),
        ),
        Component(
            "partitioner",
            "layers",
            "every layer is a unit of its own, in execution order",
            "ptqbench_brecq.partition:Layers",
            paper=ADAROUND,
        ),
        Component(
            "loss",
            "output",
            "error of the unit's outputs: |P - Q|^power summed over channels, averaged over positions",
            "ptqbench_brecq.losses:OutputError",
            paper=BRECQ,
        ),
        Component(
            "loss",
            "fisher",
            "squared error of the unit's outputs, weighted by how much the network's prediction depends on each element",
            "ptqbench_brecq.losses:FisherError",
            FisherOptions,
            paper=BRECQ,
            deviations=(
                "the Fisher information is that of the noise prediction's squared error, its Gauss-Newton diagonal, estimated "
                "with random cotangents; the paper squares the gradient of a classifier's loss",
                "weights are scaled to mean 1, so that the rounding regulariser keeps its meaning",
            ),
            released=("weighs an element's error by |g| + 1 instead of g, and does not scale g (compat = true: |g| + 1)",),
        ),
    ]
