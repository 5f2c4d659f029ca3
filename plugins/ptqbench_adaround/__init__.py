"""AdaRound: learned rounding of weights.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from ptqbench import Component, Options, hookimpl


class AdaRoundOptions(Options):
    """Options of the weight quantizer `adaround`. The stretch of the sigmoid is the paper's: from -0.1 to 1.1."""

    round_weight: float = Field(0.01, ge=0.0, description="factor of the regulariser that drives rounding to 0 or 1")
    warmup: float = Field(0.2, ge=0.0, lt=1.0, description="share of the optimisation before the regulariser acts")
    beta_start: float = Field(20.0, ge=2.0, description="exponent of the regulariser at the end of the warm-up")
    beta_end: float = Field(2.0, ge=2.0, description="exponent of the regulariser at the end of the optimisation")

    @model_validator(mode="after")
    def _falls(self) -> AdaRoundOptions:
        if self.beta_end > self.beta_start:
            raise ValueError("beta_end must not exceed beta_start: the regulariser sharpens as beta falls")
        return self


@hookimpl
def ptqbench_components() -> list[Component]:
    """The weight quantizer `adaround`."""
    return [
        Component(
            "weight-quantizer",
            "adaround",
            "learn for every weight whether to round down or up",
            "ptqbench_adaround.quantizer:AdaRound",
            AdaRoundOptions,
            paper="Nagel et al., Up or Down? Adaptive Rounding for Post-Training Quantization, ICML 2020, arXiv:2004.10568",
            unstated=("how the exponent falls; linearly, as in all released code, whose comments say cosine",),
            traits=frozenset({"learned"}),
        ),
    ]
