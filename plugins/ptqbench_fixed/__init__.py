"""Fixed sample weights: the trivial answers that learned weights have to beat.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

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


@hookimpl
def ptqbench_components() -> list[Component]:
    """The weighters `late`, `early`, `inverse-error` and `random`."""
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
    ]
