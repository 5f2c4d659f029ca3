"""Options of the metrics."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from ptqbench import Options
from ptqbench.plugin.paths import RecipePath

_WHICH = (
    "compare with real images, with the full-precision images on the same noise, or with both "
    '("both" is "fp" alone where there are no real images)'
)


class FrechetOptions(Options):
    """Options of Frechet distances."""

    reference: Literal["data", "fp", "both"] = Field("both", description=_WHICH)


class KernelOptions(Options):
    """Options of the kernel distance."""

    reference: Literal["data", "fp", "both"] = Field("data", description=_WHICH)
    subset: int = Field(
        0, ge=0, description="images per subset, averaged over disjoint subsets; 0 compares the whole set at once"
    )

    @field_validator("subset")
    @classmethod
    def _pairs(cls, subset: int) -> int:
        if subset == 1:
            raise ValueError("a subset of one image has no pairs: 0 for the whole set, or 2 and more")
        return subset


class ManifoldOptions(Options):
    """Options of precision and recall."""

    reference: Literal["data", "fp", "both"] = Field("data", description=_WHICH)
    neighbours: int = Field(3, ge=1, description="a ball reaches to this nearest neighbour")


class LpipsOptions(Options):
    """Options of LPIPS."""

    network: Literal["alex", "vgg", "squeeze"] = Field("alex", description="the network whose activations are compared")
    weights: RecipePath = Field(
        min_length=1,
        exclude=True,
        description="the network's weights as torchvision has them, for example alexnet-owt-7be5be79.pth",
    )


class ClipOptions(Options):
    """Options of the CLIP score."""

    model: RecipePath = Field(
        min_length=1,
        exclude=True,
        description="folder of a CLIP network as transformers saves it, for example openai/clip-vit-base-patch16 downloaded",
    )


class ScoreOptions(Options):
    """Options of the Inception score."""

    splits: int = Field(10, ge=2, description="parts that the shuffled images are dealt into; the score is their mean")
