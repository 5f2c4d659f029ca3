"""Sample and frequency meta weighting ("Beyond Uniformity", ICLR 2026): a loss by Haar sub-bands, and weights that learn.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ptqbench import Component, Options, hookimpl

PAPER = (
    "Beyond Uniformity: Sample and Frequency Meta Weighting for Post-Training Quantization of Diffusion Models, ICLR 2026, "
    "OpenReview FDdOD3qwS7"
)
NO_CODE = "had not appeared when this was written"
UNREAD = "what a public summary of it leaves out, since its own text could not be read; this follows the summary"
UNKNOWN = "(not in the source)"


class HaarOptions(Options):
    """Options of the loss term `haar`."""

    gamma: float = Field(1.0, ge=0, description=f"factor of the term; 0 switches it off {UNKNOWN}")


class SampleFrequencyOptions(Options):
    """Options of the weighter `sample-frequency`. The source gives no constants; see the method card."""

    learn: Literal["both", "samples", "frequencies"] = Field("both", description="which weights are learned")
    validation: float = Field(
        0.05, gt=0, lt=0.9, description=f"share of the calibration samples held out for validation {UNKNOWN}"
    )
    groups: int = Field(5, ge=1, description=f"timestep groups; each gets equally many validation samples {UNKNOWN}")
    validation_batch: int = Field(32, ge=1, description=f"validation samples for each update {UNKNOWN}")
    every: int = Field(10, ge=1, description=f"learn from every k-th mini-batch; 1: from each {UNKNOWN}")
    sample_rate: float = Field(0.1, gt=0, description=f"Adam's learning rate for the sample weights {UNKNOWN}")
    frequency_rate: float = Field(0.01, gt=0, description=f"Adam's learning rate for the band weights {UNKNOWN}")
    normalise: Literal["softmax", "clamp"] = Field(
        "softmax", description=f"how sample weights stay positive and of mean 1 in a mini-batch {UNKNOWN}"
    )
    beta: float = Field(
        0.001, ge=0, description=f"factor of the regulariser that lets the low-frequency share only fall {UNKNOWN}"
    )
    validation_scale: Literal["relative", "plain"] = Field(
        "relative",
        description="relative: the validation error counts in units of its current value, so that beta means the same in "
        "every unit; plain: as printed",
    )
    floor: float = Field(
        0.01, gt=0, lt=0.25, description=f"smallest weight of a band, which keeps the low-frequency share finite {UNKNOWN}"
    )
    lookahead: Literal["rms", "plain"] = Field(
        "rms",
        description="rms: the look-ahead moves as far as one step of the optimiser (root mean square of its learning rate); "
        "plain: learning rate times gradient",
    )


@hookimpl
def ptqbench_components() -> list[Component]:
    """The loss term `haar` and the weighter `sample-frequency`."""
    return [
        Component(
            "loss",
            "haar",
            "squared error of the output's Haar sub-bands, one part for each band",
            "ptqbench_beyond.haar:HaarError",
            HaarOptions,
            paper=PAPER,
            deviations=("norms are sums over axis 1 and means over the rest, as in the plain loss",),
            unstated=(
                UNREAD,
                "the factor gamma; 1 here",
                "what becomes of outputs that are no maps; tokens become maps if their number is the square of an even one, "
                "and units without bands go without the term",
            ),
            released=(NO_CODE,),
        ),
        Component(
            "weighter",
            "sample-frequency",
            "learned weights of samples and of Haar bands by timestep, from a one-step look-ahead on a validation split",
            "ptqbench_beyond.weighter:SampleFrequencyWeighter",
            SampleFrequencyOptions,
            paper=PAPER,
            deviations=(
                "the validation error is that of the unit's output, as the training loss is; the formula as found has the "
                "network's",
                'the validation error counts in units of its current value (validation_scale = "plain": as printed)',
                "band weights keep a floor, without which the low-frequency share can become infinite (option floor)",
            ),
            unstated=(
                UNREAD,
                "how often weights learn, by which optimiser and at which rates; from every 10th mini-batch (every), by Adam, "
                "at 0.1 for samples and 0.01 for bands",
                'the length of the look-ahead; that of one step of the optimiser (lookahead = "plain": learning rate times '
                "gradient)",
                "how sample weights are normalised; by a softmax over the mini-batch, to mean 1 (normalise)",
                "the share of validation samples, and whether they come on top of the budget; 5 % of the calibration samples",
                "the factor beta of the regulariser; 0.001 here",
            ),
            released=(NO_CODE,),
            traits=frozenset({"learned"}),
        ),
    ]
