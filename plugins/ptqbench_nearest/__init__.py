"""The plain choices: rounding to nearest, fixed activation grids, random samples, and the usual exceptions to a method's bits.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ptqbench import Component, Options, hookimpl

WHITE_PAPER = "Krishnamoorthi, Quantizing deep convolutional networks for efficient inference, arXiv:1806.08342"


class EndsOptions(Options):
    """Options of the pass `first-last-8bit`."""

    bits: int = Field(8, ge=2, le=8, description="fewest bits of the first and last layers' weights and activations")


WeightBits = Literal[0, 2, 3, 4, 5, 6, 7, 8, 32]
ActivationBits = Literal[0, 2, 3, 4, 5, 6, 7, 8, 16, 32]
MEANING = "0 leaves what the method has, 32 is floating point"


class AttentionOptions(Options):
    """Options of the pass `attention`."""

    q: ActivationBits = Field(0, description=f"bits of the queries; {MEANING}")
    k: ActivationBits = Field(0, description=f"bits of the keys; {MEANING}")
    v: ActivationBits = Field(0, description=f"bits of the values; {MEANING}")
    softmax: ActivationBits = Field(0, description=f"bits of the softmax's output; {MEANING}")

    @model_validator(mode="after")
    def _changes_something(self) -> AttentionOptions:
        if not (self.q or self.k or self.v or self.softmax):
            raise ValueError("all four sites have the method's activation bits anyway: give q, k, v or softmax other bits")
        return self


class PatternOptions(Options):
    """Which layers a pass is about."""

    patterns: tuple[str, ...] = Field(
        min_length=1,
        description='names of layers, as `ptqbench plan` lists them, with shell wildcards: "*" stands for anything, dots too',
    )
    required: bool = Field(True, description="fail if no pattern matches a layer, instead of changing nothing")


class FloatLayersOptions(PatternOptions):
    """Options of the pass `float-layers`."""


class LayerBitsOptions(PatternOptions):
    """Options of the pass `layer-bits`."""

    weights: WeightBits = Field(0, description=f"bits of these layers' weights; {MEANING}")
    activations: ActivationBits = Field(0, description=f"bits of these layers' inputs; {MEANING}")

    @model_validator(mode="after")
    def _changes_something(self) -> LayerBitsOptions:
        if not (self.weights or self.activations):
            raise ValueError("it would change nothing: give weights or activations other bits than 0")
        return self


@hookimpl
def ptqbench_components() -> list[Component]:
    """The quantizers `nearest` and `affine`, the sampler `random`, and plan passes."""
    uniform = "ptqbench.quant.uniform:UniformQuantizer"
    return [
        Component(
            "weight-quantizer",
            "nearest",
            "round weights to the nearest point of a uniform grid",
            uniform,
            paper=WHITE_PAPER,
        ),
        Component(
            "activation-quantizer",
            "affine",
            "uniform grid with scale and zero point fixed after calibration",
            uniform,
            paper=WHITE_PAPER,
        ),
        Component(
            "sampler",
            "random",
            "uniformly random (trajectory, step) pairs without replacement",
            "ptqbench_nearest.sampler:RandomSampler",
        ),
        Component(
            "pass",
            "first-last-8bit",
            "at least 8 bits for the layers that read the denoiser's input and for the last executed layer",
            "ptqbench_nearest.ends:FirstLastPass",
            EndsOptions,
            paper="Li et al., BRECQ, ICLR 2021",
            released=(
                "that of PTQ4DM and EDA-DM takes the layer that is registered first, a linear layer of the time embedding; "
                "here first and last are meant by execution",
            ),
        ),
        Component(
            "pass",
            "attention",
            "other bits, or floating point, for queries, keys, values or the softmax's output of every attention",
            "ptqbench_nearest.attention:AttentionBits",
            AttentionOptions,
            paper="Li et al., Q-Diffusion, ICCV 2023, arXiv:2302.04304",
            released=("has a signed grid for the softmax on CIFAR-10; here it always starts at zero",),
        ),
        Component(
            "pass",
            "float-layers",
            "weights and inputs of some layers stay in full precision",
            "ptqbench_nearest.named:FloatLayers",
            FloatLayersOptions,
        ),
        Component(
            "pass",
            "layer-bits",
            "other bits for the weights or inputs of some layers",
            "ptqbench_nearest.named:LayerBits",
            LayerBitsOptions,
        ),
    ]
