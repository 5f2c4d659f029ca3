"""One interval for a row's number: over images and over calibration seeds together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

from ptqbench.evaluate.intervals import LEVEL
from ptqbench.results.rows import Row, Summary

NORMAL_EDGE = 1.96
"""Standard errors in half of a 95 % interval over images; the t quantile of few images makes them count a little more."""


@dataclass(frozen=True)
class Spread:
    """Variance over calibration seeds as a multiple of the variance over images, pooled over rows; degrees of freedom."""

    ratio: float
    freedom: int


def spreads(rows: Sequence[Row], metric: str) -> Mapping[str, Spread]:
    """By bit setting, how much a metric moves from one calibration to the next.

    Two or three seeds say little about their own spread, so that of all rows at the same bits counts, in units of each row's
    image noise, as for differences (`ptqbench.evaluate.paired`). Rows that no calibration changes say nothing.
    """
    found = {}
    for bits in dict.fromkeys(row.bits for row in rows):
        moving = [row.metrics[metric] for row in rows if row.bits == bits and metric in row.metrics]
        moving = [x for x in moving if x.spread and _image_error(x) > 0]
        freedom = sum(len(x.seeds) - 1 for x in moving)
        if freedom:
            total = sum((len(x.seeds) - 1) * ((x.spread or 0.0) / _image_error(x)) ** 2 for x in moving)
            found[bits] = Spread(total / freedom, freedom)
    return found


def interval(summary: Summary, spread: Spread | None) -> tuple[float, float]:
    """The 95 % interval of a mean over calibration seeds; that over images alone where nothing moves, or nothing is known.

    Each side's two half-widths are added in quadrature (Zou and Donner 2008, Statistics in Medicine 27, section 2), so that an
    interval over images that is not symmetric, because a distance ends at 0, keeps its form; none is pushed below that 0. A
    row with one seed has the spread of the others.
    """
    if spread is None or summary.spread == 0:
        return summary.low, summary.high
    edge = -float(stdtrit(spread.freedom, (1 - LEVEL) / 2))
    half = edge * math.sqrt(spread.ratio / len(summary.seeds)) * _image_error(summary)
    low = summary.value - math.hypot(summary.value - summary.low, half)
    return max(low, 0.0) if summary.low >= 0 else low, summary.value + math.hypot(summary.high - summary.value, half)


def _image_error(summary: Summary) -> float:
    return (summary.high - summary.low) / 2 / NORMAL_EDGE
