"""Sample weights that cost nothing: the trivial answers that learned weights have to beat.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ptqbench import Component, Options, hookimpl


class LateOptions(Options):
    """Options of the weighter `late`."""

    factor: float = Field(4.0, gt=0, description="how many times a sample below the threshold counts")
    threshold: int = Field(200, ge=1, description="samples with timestep t < threshold are late")


class EarlyOptions(Options):
    """Options of the weighter `early`."""

    factor: float = Field(4.0, gt=0, description="how many times a sample above the threshold counts")
    threshold: int = Field(800, ge=0, description="samples with timestep t > threshold are early")


class InverseErrorOptions(Options):
    """Options of the weighter `inverse-error`."""

    power: float = Field(1.0, gt=0, description="a sample counts 1 / error^power of its sampling step")


class RandomOptions(Options):
    """Options of the weighter `random`."""

    spread: float = Field(1.0, ge=0, description="standard deviation of the scores under the softmax; 0 weighs all alike")


class StepWeightsOptions(Options):
    """Options of the weighter `step-weights`."""

    weights: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (1.0,),
        strict=False,
        min_length=1,
        description="a weight for each of as many equal groups of sampling steps, noisiest first",
    )


class FocalOptions(Options):
    """Options of the weighter `focal`."""

    power: float = Field(20.0, ge=0, description="exponent of one minus the share of the error")
    momentum: float = Field(0.95, ge=0, lt=1, description="share of a bin's error that each mini-batch keeps")
    bins: int = Field(20, ge=2, description="equal groups of sampling steps whose errors are told apart")


class CurriculumOptions(Options):
    """Options of the weighter `curriculum`."""

    stages: int = Field(5, ge=2, description="number of stages, and of equal groups of sampling steps")
    start: Literal["noisy", "clean"] = Field("noisy", description="which end of the trajectory the first stage has")


DMQ = "Lee et al., Dissecting Outliers of Diffusion Models for Post-training Quantization, ICCV 2025, arXiv:2507.12933"


@hookimpl
def ptqbench_components() -> list[Component]:
    """The weighters `late`, `early`, `inverse-error`, `random`, `step-weights`, `focal` and `curriculum`."""
    target = "ptqbench_fixed.weighter"
    return [
        Component(
            "weighter",
            "late",
            "samples of the last, nearly clean sampling steps count several times",
            f"{target}:Late",
            LateOptions,
        ),
        Component(
            "weighter",
            "early",
            "samples of the first, noisy sampling steps count several times",
            f"{target}:Early",
            EarlyOptions,
        ),
        Component(
            "weighter",
            "inverse-error",
            "samples count in inverse proportion to the full-precision model's denoising error at their step",
            f"{target}:InverseError",
            InverseErrorOptions,
        ),
        Component(
            "weighter", "random", "weights drawn at random, once for each sample and unit", f"{target}:Random", RandomOptions
        ),
        Component(
            "weighter",
            "step-weights",
            "a given weight for each group of sampling steps, such as `ptqbench study oracle` finds",
            f"{target}:StepWeights",
            StepWeightsOptions,
        ),
        Component(
            "weighter",
            "focal",
            "steps that hold a large share of the unit's error count less",
            "ptqbench_fixed.focal:Focal",
            FocalOptions,
            paper=DMQ,
            deviations=("weighs whatever the reconstruction learns; there only the learned scaling of channels is weighed",),
            released=("bins are 50 timesteps of 1000; here equal groups of sampling steps, the same on a uniform grid of 20",),
        ),
        Component(
            "weighter",
            "curriculum",
            "mini-batches come from ever more sampling steps, from the noisy end on",
            "ptqbench_fixed.curriculum:Curriculum",
            CurriculumOptions,
            paper="Fast_DM_PTQ (skku-khu), as its port in qtbench describes it; no paper was found",
            deviations=("the optimiser keeps its moments between stages; there they are reset",),
            unstated=("how long a stage is; all are equally long, within the reconstruction's iterations",),
        ),
    ]
