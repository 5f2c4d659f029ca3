"""TFMQ-DM: the layers that know only the timestep are fitted together, and get activation grids for each sampling step.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from pydantic import Field

from ptqbench import Component, Options, hookimpl
from ptqbench.quant.units import BLOCK_CLASSES

PAPER = "Huang et al., TFMQ-DM: Temporal Feature Maintenance Quantization for Diffusion Models, CVPR 2024, arXiv:2311.16503"


class TemporalOptions(Options):
    """Where the temporal information block lies. Patterns are shell-style and match whole names; `*` spans dots."""

    embedding: tuple[str, ...] = Field(
        ("time_embedding", "time_embed", "temb.dense.*"),
        strict=False,
        min_length=1,
        description="the module that turns the timestep's code into the time embedding, or its layers, which then follow "
        "each other with SiLU between them",
    )
    projections: tuple[str, ...] = Field(
        ("*.time_emb_proj", "*.temb_proj", "*.emb_layers.1"),
        strict=False,
        min_length=1,
        description="the layers of the residual blocks that read the time embedding",
    )


class TemporalBlocksOptions(TemporalOptions):
    """Options of the partitioner `temporal-blocks`."""

    blocks: tuple[str, ...] = Field(
        BLOCK_CLASSES,
        strict=False,
        min_length=1,
        description="class names of modules that are fitted as a whole; of nested ones the outermost counts",
    )


class FiniteSetOptions(TemporalOptions):
    """Options of the pass `finite-set`."""

    compat: bool = Field(
        False,
        description="as released: grids for each sampling step at every layer and attention, not only in the temporal block",
    )


@hookimpl
def ptqbench_components() -> list[Component]:
    """The partitioner `temporal-blocks` and the pass `finite-set`."""
    return [
        Component(
            "partitioner",
            "temporal-blocks",
            "time MLP and timestep projections as the first unit, then blocks and single layers in execution order",
            "ptqbench_tfmq.partition:TemporalBlocks",
            TemporalBlocksOptions,
            paper=PAPER,
            unstated=(
                "what becomes of class embeddings that a model adds to the time embedding; they are left out while the "
                "temporal block is fitted, as in the released code",
            ),
            released=("fits units in the order of registration; here in that of execution",),
        ),
        Component(
            "pass",
            "finite-set",
            "activation grids of their own for each sampling step in the layers that know only the timestep",
            "ptqbench_tfmq.finite:FiniteSet",
            FiniteSetOptions,
            paper=PAPER,
            deviations=(
                "ranges come from the method's estimator, not always from extrema; on values that only the timestep decides, "
                "extrema and their moving average agree",
            ),
            released=("has grids for each step at every layer and attention (compat = true)",),
        ),
    ]
