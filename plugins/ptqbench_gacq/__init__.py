"""Gradient-aligned calibration (GACQ, arXiv:2602.01289): sample weights learned so that timestep groups agree.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ptqbench import Component, Options, Preset, hookimpl
from ptqbench_gacq import presets


class GacqOptions(Options):
    """Options of the weighter `gacq`. Defaults follow the paper where a source for them was found; see the method card."""

    temperature: float = Field(1.0, gt=0, description="softmax temperature of the scores (the paper's best of 0.2 to 2)")
    validation: float = Field(0.05, gt=0, lt=0.9, description="share of the calibration samples held out for validation")
    groups: int = Field(5, ge=2, description="timestep groups; each gets equally many validation samples")
    score_rate: float = Field(0.1, ge=0, description="Adam's learning rate for the scores; 0 keeps weights equal")
    every: int = Field(16, ge=1, description="learn from every k-th mini-batch (1: from each)")
    matching: float = Field(1.0, ge=0, description="factor of the gradient-matching term; 0 switches it off")
    matching_groups: int = Field(
        1, ge=0, description="groups whose part of the matching gradient is computed at a time (0: all), unbiased"
    )
    lookahead: Literal["rms", "plain"] = Field(
        "rms",
        description="rms: the look-ahead moves as far as one step of the optimiser (root mean square of its learning rate); "
        "plain: learning rate times gradient",
    )


@hookimpl
def ptqbench_weighters() -> list[Component]:
    """The weighter `gacq`."""
    return [
        Component(
            "gacq",
            "learned sample weights: one-step look-ahead on a validation split, gradients of timestep groups aligned",
            "ptqbench_gacq.weighter:GacqWeighter",
            GacqOptions,
            paper="arXiv:2602.01289",
            deviations=(
                "of the matching term's groups one at random is computed at a time, unbiased (matching_groups = 0: all)",
                "weights have mean 1 in the mini-batch, so that the reconstruction's learning rate keeps its meaning",
                "not found in any source, so ours: how often and by which optimiser scores learn, and the look-ahead's length",
            ),
            traits=frozenset({"learned"}),
        )
    ]


@hookimpl
def ptqbench_presets() -> list[Preset]:
    """The presets `gacq` and `gacq-tfmq`."""
    return [
        Preset(
            "gacq",
            "learned sample weights on Q-Diffusion's calibration and block reconstruction",
            presets.GACQ,
            paper="arXiv:2602.01289",
            deviations=presets.DEVIATIONS,
        ),
        Preset(
            "gacq-tfmq",
            "learned sample weights on TFMQ-DM's temporal blocks and ranges, as in the paper",
            presets.GACQ_TFMQ,
            paper="arXiv:2602.01289",
            deviations=presets.TFMQ_DEVIATIONS,
        ),
    ]
