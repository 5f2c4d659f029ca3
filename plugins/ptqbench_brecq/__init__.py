"""Block reconstruction (BRECQ): which layers form a unit, and how a unit is fitted.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from pydantic import Field

from ptqbench import Component, Options, hookimpl

BRECQ = "Li et al., BRECQ: Pushing the Limit of Post-Training Quantization by Block Reconstruction, ICLR 2021"

BLOCK_CLASSES = (
    "ResnetBlock2D",
    "Attention",
    "BasicTransformerBlock",
    "ResnetBlock",
    "AttnBlock",
    "ResBlock",
    "AttentionBlock",
)
"""The blocks of diffusers' UNets, of the DDPM UNet for CIFAR-10, and of the latent-diffusion UNet."""


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


@hookimpl
def ptqbench_reconstructions() -> list[Component]:
    """The reconstructions `brecq`, `layerwise` and `none`."""
    deviations = (
        "the task loss is the mean squared error of the unit's output; the Fisher-weighted variant is not offered here",
        "dropout is off while a unit is fitted; released Q-Diffusion leaves the network in training mode",
    )
    target = "ptqbench_brecq.reconstruction:TwoPhase"
    return [
        Component(
            "brecq",
            "blocks: rounding on inputs of the network quantized so far, then activation step sizes",
            target,
            BrecqOptions,
            paper=BRECQ,
            deviations=deviations,
            defaults={"partitioner": "blocks"},
        ),
        Component(
            "layerwise",
            "AdaRound layer by layer: the same two phases with every layer as its own unit",
            target,
            BrecqOptions,
            paper="Nagel et al., Up or Down? Adaptive Rounding for Post-Training Quantization, ICML 2020",
            deviations=("the loss is taken before the activation function, which diffusion blocks apply elsewhere",),
            defaults={"partitioner": "layers"},
        ),
        Component(
            "none",
            "round to nearest: nothing is fitted",
            "ptqbench_brecq.reconstruction:Nothing",
            traits=frozenset({"closed-form"}),
        ),
    ]


@hookimpl
def ptqbench_partitioners() -> list[Component]:
    """The partitioners `blocks` and `layers`."""
    return [
        Component(
            "blocks",
            "residual, attention and transformer blocks as units, every other layer on its own, in execution order",
            "ptqbench_brecq.partition:Blocks",
            BlocksOptions,
            paper=BRECQ,
            deviations=("units come in execution order; released Q-Diffusion takes the order of registration",),
        ),
        Component(
            "layers",
            "every layer is a unit of its own, in execution order",
            "ptqbench_brecq.partition:Layers",
            paper="Nagel et al., Up or Down? Adaptive Rounding for Post-Training Quantization, ICML 2020",
        ),
    ]
