"""EDA-DM: calibration steps by density and diversity of features, and a loss on every layer inside a unit.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from pydantic import Field

from ptqbench import Component, Options, hookimpl

PAPER = (
    "Liu et al., EDA-DM: Enhanced Distribution Alignment for Post-Training Quantization of Diffusion Models, arXiv:2401.04585"
)

MIDDLE_BLOCKS = ("mid_block.attentions.0", "mid.attn_1", "middle_block.1")
"""Attention in the middle of diffusers' UNets, of the DDPM UNet for CIFAR-10, and of the latent-diffusion UNet."""


class DensityDiversityOptions(Options):
    """Options of the sampler `density-diversity`."""

    tap: tuple[str, ...] = Field(
        MIDDLE_BLOCKS,
        strict=False,
        min_length=1,
        description="module whose input describes a step: the first of these names that the denoiser calls",
    )
    radius: float = Field(
        0.0,
        ge=0.0,
        description="steps within this mean squared distance count as neighbours; published: 3.0 (CIFAR-10, ImageNet) and 0.3 "
        "(LSUN, COCO), which fit those networks' features only; 0: a quantile of all distances",
    )
    radius_quantile: float = Field(
        0.2, gt=0.0, lt=1.0, description="share of all pairs of steps that are neighbours where `radius` is 0"
    )
    weight: float = Field(1.2, ge=0.0, description="weight of diversity beside density (the paper's lambda)")
    probe: int = Field(64, ge=1, description="trajectories whose features are compared")


class LayerOutputsOptions(Options):
    """Options of the loss term `layer-outputs`."""

    factor: float = Field(0.8, ge=0.0, description="factor of the term beside the unit's output (the paper's gamma)")


@hookimpl
def ptqbench_components() -> list[Component]:
    """The sampler `density-diversity` and the loss term `layer-outputs`."""
    return [
        Component(
            "sampler",
            "density-diversity",
            "more samples from steps whose features have many neighbours or point another way than the others'",
            "ptqbench_edadm.sampler:DensityDiversitySampler",
            DensityDiversityOptions,
            paper=PAPER,
            deviations=(
                "the radius of a neighbourhood is a quantile of the features' distances unless it is given (option radius)",
            ),
            released=(
                "takes each sample from a trajectory of its own; here trajectories are reused where there are more samples",
                "compares features of 1024 trajectories on CIFAR-10, 64 on latent models, 8 on COCO; here of 64 (option probe)",
                "may drive a step's number of samples below zero on LSUN-Churches; here it stays at zero or above",
            ),
        ),
        Component(
            "loss",
            "layer-outputs",
            "errors of all layers inside a unit but the last, beside the error of its output",
            "ptqbench_edadm.loss:LayerOutputs",
            LayerOutputsOptions,
            paper=PAPER,
            released=(
                "compares inner layers in a second pass with new drop masks; here in the pass that gives the output",
                "leaves out the layer that is registered last; here the one executed last",
            ),
        ),
    ]
