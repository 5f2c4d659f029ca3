"""Gradient-aligned calibration (GACQ, arXiv:2602.01289): sample weights learned so that timestep groups agree.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ptqbench import Component, Options, hookimpl

PAPER = "arXiv:2602.01289"


class GacqOptions(Options):
    """Options of the weighter `gacq`. Defaults follow the paper where a source for them was found; see the method card."""

    schedule: Literal["fitting", "before", "each"] = Field(
        "fitting",
        description="when scores learn. fitting: while the unit is fitted; before: before it is, and weights stay as they then "
        "are; each: for each mini-batch anew, from equal ones, and weights are forgotten",
    )
    updates: int = Field(2, ge=1, description="how often scores learn in a unit (schedules fitting and before)")
    every: int = Field(
        0,
        ge=0,
        description="schedule fitting: learn at every k-th mini-batch; 0: `updates` times, evenly spread over the first half",
    )
    scope: Literal["all", "batch"] = Field(
        "all", description="schedule fitting: whose weights an update concerns, all samples' at once or the mini-batch's"
    )
    score_rate: float = Field(
        0.5, ge=0, description="how far an update moves the scores, in root mean square; 0 keeps weights equal"
    )
    temperature: float = Field(1.0, gt=0, description="softmax temperature of the scores (the paper's best of 0.2 to 2)")
    validation: float = Field(0.05, gt=0, lt=0.9, description="share of the calibration samples held out for validation")
    groups: int = Field(5, ge=2, description="timestep groups; each gets equally many validation samples")
    validation_batch: int = Field(0, ge=0, description="validation samples of each group in an update; 0: all of them")
    validate_on: Literal["unit", "network"] = Field(
        "unit", description="what the validation error is: that of the unit's output, or of the network's noise prediction"
    )
    gain: bool = Field(
        False,
        description="validate_on = network: errors count by the square of the sampler's factor for their step, as in "
        "latent-error",
    )
    matching: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="length of the matching term's gradient as a share of the validation error's; 0 switches it off",
    )
    matching_measure: Literal["cosine", "product"] = Field(
        "product", description="how gradients of timestep groups are compared: by their angle, or by the paper's inner product"
    )
    matching_space: Literal["weights", "trainables"] = Field(
        "weights",
        description="what these gradients are by: the weights (the paper's surrogate), or the unit's trainables",
    )
    lookahead: Literal["path", "step", "plain"] = Field(
        "path",
        description="length of the look-ahead. path: 1/2000 of the way that the optimiser can go in the fit, whatever steps it "
        "is cut into; step: one step of the optimiser (both in root mean square); plain: learning rate times gradient",
    )

    @model_validator(mode="after")
    def _every_option_does_something(self) -> GacqOptions:
        fitting, matched = self.schedule == "fitting", self.matching > 0
        idle = {
            "every": self.every > 0 and not fitting and "it counts mini-batches of the schedule fitting",
            "scope": self.scope != "all" and not fitting and "the other schedules have one of their own",
            "gain": self.gain and self.validate_on == "unit" and "a unit's output has no sampler's factor",
            "matching_measure": self.matching_measure != "product" and not matched and "nothing is matched at matching = 0",
            "matching_space": self.matching_space != "weights" and not matched and "nothing is matched at matching = 0",
        }
        for name, why in idle.items():
            if why:
                raise ValueError(f"{name} changes nothing here: {why}")
        return self


@hookimpl
def ptqbench_components() -> list[Component]:
    """The weighter `gacq`."""
    return [
        Component(
            "weighter",
            "gacq",
            "learned sample weights: one-step look-ahead on a validation split, gradients of timestep groups aligned",
            "ptqbench_gacq.weighter:GacqWeighter",
            GacqOptions,
            paper=PAPER,
            deviations=(
                "the matching term's gradient has a stated share of the validation error's length (matching), at any scale of "
                "the terms: with their printed weights the sum points uphill of the validation error in fast fits",
                "weights have mean 1 in the mini-batch, not sum 1, so that the reconstruction's learning rate means the same",
            ),
            unstated=(
                "what a public summary of it leaves out, since its own text could not be read; this follows the summary",
                "when scores learn; while the unit is fitted, all at once, twice in its first half. A public note of the "
                'paper says once before it (schedule = "before"), and scores that start at 1/32 would fit weights of each '
                'mini-batch (schedule = "each")',
                "whose output validates; the unit's, as it is trained on, while the summary speaks of the quantized network's "
                '(validate_on = "network")',
                "whether the softmax runs over all samples or over the mini-batch; over all, where all learn at once",
                "whether the look-ahead follows the rounding penalty; it does not, and takes the weighted errors alone",
                "the length of the look-ahead; 1/2000 of the way that the optimiser can go in the fit (lookahead)",
                "by which optimiser scores learn, and how far; by Adam, at 0.5",
                "whether validation samples come on top of the calibration budget; they are part of it",
            ),
            released=("had not appeared when this was written",),
            traits=frozenset({"learned"}),
        ),
    ]
