"""Features of DINOv2, on which Frechet distances follow human judgment better than on Inception's.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from pydantic import Field

from ptqbench import Component, Options, hookimpl
from ptqbench.plugin.paths import RecipePath


class DinoOptions(Options):
    """Options of the DINOv2 features."""

    model: RecipePath = Field(
        min_length=1,
        description="folder of a DINOv2 network as transformers saves it, for example facebook/dinov2-large downloaded; "
        "relative to the recipe",
    )


@hookimpl
def ptqbench_components() -> list[Component]:
    """The DINOv2 features."""
    return [
        Component(
            "features",
            "dinov2",
            "the class token of DINOv2 after its last norm (1024 numbers of ViT-L/14); weights by path, needs transformers",
            "ptqbench_dinov2.features:DinoFeatures",
            DinoOptions,
            paper="arXiv:2306.04675",
            deviations=("images are resized by torchvision with antialiasing, not by Pillow",),
        ),
    ]
