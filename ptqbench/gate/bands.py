"""The tolerated difference of a metric, unless somebody wrote another one into the baseline."""

from __future__ import annotations

from ptqbench.gate.snapshot import Measure

RELATIVE = 0.02
"""Part of the value. FID at 50 000 images moves by 0.5 to 1.3 % between evaluations of one model (clean-fid's tables)."""

STANDARD_ERRORS = 0.5
"""Part of the number's own standard error: a smaller shift changes no conclusion that the number supports."""

PER_HALF_WIDTH = 1 / 1.96
"""Standard errors in half of a 95 % interval, from the normal distribution."""


def default_band(measure: Measure) -> float:
    """The larger of 2 % of the value and half a standard error of the number, with three significant digits.

    A relative band alone means nothing for a number near zero (a kernel distance) or in decibels; the number's interval
    alone is far too wide where the comparison is paired. Significance is tested apart from the band: it protects from
    noise, while the band says which differences matter to anybody.
    """
    band = max(RELATIVE * abs(measure.value), STANDARD_ERRORS * PER_HALF_WIDTH * measure.half)
    return float(f"{band:.3g}")


def set_by_hand(measure: Measure) -> bool:
    """Whether a stored band is not the one that would have been chosen; rounding is forgiven."""
    usual = default_band(measure)
    return abs(measure.band - usual) > 0.01 * usual
