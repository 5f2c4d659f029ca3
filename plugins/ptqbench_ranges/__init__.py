"""Range estimators: extrema, their moving average, and two searches for the smallest error.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from pydantic import Field

from ptqbench import Component, Options, hookimpl

BRECQ = "Li et al., BRECQ, ICLR 2021"
QDIFFUSION = "Li et al., Q-Diffusion, ICCV 2023"
PTQ4DM = "Shang et al., Post-training Quantization on Diffusion Models, CVPR 2023, arXiv:2211.15736"

_THINNED = "scores every value of a row; here at most 65536, taken evenly (option max_values)"
ZERO = "widen every range until it contains zero; the released code takes raw extrema here"


class MinMaxOptions(Options):
    """Options of the range `minmax`."""

    compat: bool = Field(
        False,
        description="as in released Q-Diffusion: the scale spans the raw extrema while the zero point assumes that "
        "zero lies between them, which clips rows of one sign",
    )


class EmaOptions(Options):
    """Options of the range `ema`."""

    momentum: float = Field(0.95, ge=0.0, lt=1.0, description="share of the old extrema that each update keeps")
    update: int = Field(16, ge=1, description="samples whose extrema make one update, whatever `calibration.batch` is")
    include_zero: bool = Field(False, description=ZERO)


class MseOptions(Options):
    """Options of the range `mse`."""

    candidates: int = Field(80, ge=1, le=1000, description="number of candidate ranges, the raw extrema first")
    shrink: float = Field(0.01, gt=0.0, lt=1.0, description="candidate k multiplies both extrema by 1 - k * shrink")
    power: float = Field(2.4, gt=0.0, le=10.0, description="exponent of the mean absolute error that is minimised")
    include_zero: bool = Field(False, description=ZERO)
    max_values: int = Field(
        65536, ge=256, description="values per row that the search looks at; longer rows are thinned evenly"
    )


class ThresholdOptions(Options):
    """Options of the range `threshold`."""

    candidates: int = Field(100, ge=1, le=1000, description="number K of thresholds: k/K of the largest magnitude, k = 1 .. K")
    power: float = Field(2.4, gt=0.0, le=10.0, description="exponent of the mean absolute error that is minimised")
    momentum: float = Field(
        0.9, ge=0.0, lt=1.0, description="share of the old threshold that each update keeps; the first one starts it"
    )
    update: int = Field(32, ge=1, description="samples that are searched together as one update")
    max_values: int = Field(
        65536, ge=256, description="values per row and update that the search looks at; longer rows are thinned evenly"
    )


@hookimpl
def ptqbench_components() -> list[Component]:
    """The ranges `minmax`, `ema`, `mse` and `threshold`."""
    return [
        Component(
            "range",
            "minmax",
            "smallest and largest value seen, widened to contain zero",
            "ptqbench_ranges.extrema:MinMax",
            MinMaxOptions,
            paper=BRECQ,
            released=("that of Q-Diffusion clips rows whose values have one sign (compat = true); here they keep their range",),
        ),
        Component(
            "range",
            "ema",
            "moving average of the extrema of every few samples",
            "ptqbench_ranges.extrema:MovingAverage",
            EmaOptions,
            paper=QDIFFUSION,
            released=(
                "finds a range on an initial batch first, which the average replaces; here the first update starts it",
                "updates once for each batch, of 64 samples on LSUN-Bedrooms and of 16 on Stable Diffusion; here for every 16",
            ),
        ),
        Component(
            "range",
            "mse",
            "shrunken extrema with the smallest mean |x - q(x)|^2.4",
            "ptqbench_ranges.search:Search",
            MseOptions,
            paper=BRECQ,
            released=(
                "that of Q-Diffusion searches the asymmetric grid for symmetric ones too; here the one that is used",
                "searches activations on one batch; here on values from all calibration batches",
                _THINNED,
            ),
        ),
        Component(
            "range",
            "threshold",
            "a range [-m, m] (one-sided data: half of it) with the smallest mean |x - q(x)|^2.4, averaged",
            "ptqbench_ranges.threshold:Threshold",
            ThresholdOptions,
            paper=PTQ4DM,
            released=(
                _THINNED,
                "that of EDA-DM updates for each batch of 256 (CIFAR-10), 32 (latent models) or 2 samples; here for every 32",
            ),
        ),
    ]
