"""Features of the 2015 Inception network, on which published FID, sFID, KID and Inception scores rest.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from pydantic import Field

from ptqbench import Component, Options, hookimpl

FILE = "pt_inception-2015-12-05-6726825d.pth"
SOURCE = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/" + FILE


class InceptionOptions(Options):
    """Options of the Inception features."""

    weights: str = Field(
        "",
        description=f"the file of weights; empty to look for {FILE} in torch's hub cache, ~/.cache/torch/hub/checkpoints as a "
        f"rule. Nothing is downloaded: get it from {SOURCE}",
    )
    sha256: str = Field(
        "",
        pattern="^([0-9a-f]{64})?$",
        description="SHA-256 of another file of weights to accept; numbers on it are never called FID",
    )


@hookimpl
def ptqbench_components() -> list[Component]:
    """The Inception features."""
    return [
        Component(
            "features",
            "inception",
            "pytorch-fid's Inception network: 2048 pooled and 2023 spatial features, 1008 probabilities; weights by file",
            "ptqbench_inception.features:InceptionFeatures",
            InceptionOptions,
            paper="arXiv:1512.00567",
            deviations=("probabilities leave the bias of the last layer out, as the guided-diffusion evaluator does",),
            released=("runs in TensorFlow, whose resizing and arithmetic give slightly other numbers",),
        ),
    ]
