"""Names of numbers on features: their reference, and the extractor unless they are the published Inception's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptqbench.errors import CellFailedError
from ptqbench.evaluate.evidence import Evidence
from ptqbench.evaluate.features import FeatureSet
from ptqbench.evaluate.intervals import BLOCKS, LEVEL, Interval, mean_interval, partition
from ptqbench.roles.features import FeatureInfo
from ptqbench.roles.metric import MetricValue

LEAST_FOR_MEDIAN = 6
"""Fewer values lie on one side of their median with a chance of more than 5 %."""

LEAST_IN_BLOCK = 6
"""Values that a block must have before a median without it says anything: a jackknife that leaves out one value at a time
gives a median's variance wrong however many there are (Efron 1982, section 3.4)."""


def column(label: str, published: str, extractor: FeatureInfo, which: str = "") -> str:
    """`published` alone on Inception's published features, "<label>-<extractor>" on all others, then "@<reference>".

    An empty `published` means that there is no such name.
    """
    name = published if extractor.inception and published else f"{label}-{extractor.name}"
    return f"{name}@{which}" if which else name


def references(option: str) -> list[str]:
    """The sets that the option `reference` asks for."""
    return ["data", "fp"] if option == "both" else [option]


def applicable(evidence: Evidence, option: str, output: str) -> list[str]:
    """Those that apply to this cell: full precision has no distance to itself, and "both" puts up with no real images."""
    found = references(option)
    if evidence.is_full_precision:
        found = [which for which in found if which != "fp"]
    if option == "both" and evidence.features("data", output) is None:
        found = [which for which in found if which != "data"]
    return found


def features_of(evidence: Evidence, which: str, output: str, name: str, use: str) -> FeatureSet:
    """A set's features. Raises `CellFailedError` where there are no real images for the number `name`."""
    features = evidence.features(which, output)
    if features is None:
        raise CellFailedError(
            f"{name} needs real images, and this model brings none",
            "name some with evaluation.reference, or write "
            f'metrics = [{{ use = "{use}", reference = "fp" }}, ...] in the recipe\'s [evaluation]',
        )
    return features


def value_of(
    interval: Interval,
    n: int,
    detail: Mapping[str, list[float]] | None = None,
    replicates: Sequence[float] = (),
    unit: str = "images",
) -> MetricValue:
    """An interval with the count n of `unit` that it rests on, and the values with one block of ids left out."""
    return MetricValue(interval.value, interval.low, interval.high, n, detail or {}, replicates, unit)


def mean_value(
    values: NDArray[np.float64], detail: Mapping[str, list[float]] | None = None, unit: str = "images"
) -> MetricValue:
    """The mean of independent values (n,), one for each image or whatever `unit` says.

    Raises `CellFailedError` for fewer than two, and for values that are not finite.
    """
    return value_of(mean_interval(values), len(values), detail, _without_each(values, np.mean), unit)


def share_value(hits: NDArray[np.bool_], *, blocks: bool = True) -> MetricValue:
    """The share of independent images (n,) that are hits, with Wilson's interval; with replicates if `blocks` is true."""
    from scipy.stats import binomtest  # slow to import: only where shares are computed

    test = binomtest(int(hits.sum()), len(hits))
    ends = test.proportion_ci(LEVEL, method="wilson")
    # At 0 and at 1 the ends may miss the value by a rounding error.
    value = float(test.statistic)
    interval = Interval(value, min(value, float(ends.low)), max(value, float(ends.high)))
    return value_of(interval, len(hits), replicates=_without_each(hits, np.mean) if blocks else ())


def median_value(values: NDArray[np.float64]) -> MetricValue:
    """The median of independent values (n,), one for each image, with the interval between order statistics.

    The interval holds for any distribution: the number of values below the median is binomial (David and Nagaraja, Order
    Statistics, section 7.1). Raises `CellFailedError` for fewer than `LEAST_FOR_MEDIAN` values, between whose ends no
    interval of 95 % lies, and for values that are not finite.

    Of few values the blocks are fewer, so that each has `LEAST_IN_BLOCK`; without two such blocks there are no replicates.
    """
    from scipy.stats import quantile_test

    if len(values) < LEAST_FOR_MEDIAN or not np.isfinite(values).all():
        raise CellFailedError(
            f"{len(values)} images give no interval for a median", f"generate at least {LEAST_FOR_MEDIAN} (sampling.images)"
        )
    middle = float(np.median(values))
    ends: Any = quantile_test(values, q=middle, p=0.5).confidence_interval(LEVEL)
    interval = Interval(middle, float(ends.low), float(ends.high))
    blocks = min(BLOCKS, len(values) // LEAST_IN_BLOCK)
    return value_of(interval, len(values), replicates=_without_each(values, np.median, blocks) if blocks > 1 else ())


def _without_each(values: NDArray[Any], of: Callable[[NDArray[Any]], Any], blocks: int = BLOCKS) -> list[float]:
    """A statistic of the values (n,) with each block left out."""
    labels = partition(len(values), blocks)
    return [float(of(values[labels != block])) for block in range(int(labels.max()) + 1)]


def clipped(interval: Interval, low: float, high: float) -> Interval:
    """The interval without what the number can never be."""
    return Interval(interval.value, max(low, interval.low), min(high, interval.high))
