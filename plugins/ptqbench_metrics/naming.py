"""Names of numbers on features: their reference, and the extractor unless they are the published Inception's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ptqbench.errors import CellFailedError
from ptqbench.evaluate.evidence import Evidence
from ptqbench.evaluate.features import FeatureSet
from ptqbench.evaluate.intervals import Interval, mean_interval, partition
from ptqbench.roles.features import FeatureInfo
from ptqbench.roles.metric import MetricValue


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
    interval, labels = mean_interval(values), partition(len(values))
    replicates = [float(values[labels != block].mean()) for block in range(int(labels.max()) + 1)]
    return value_of(interval, len(values), detail, replicates, unit)


def clipped(interval: Interval, low: float, high: float) -> Interval:
    """The interval without what the number can never be."""
    return Interval(interval.value, max(low, interval.low), min(high, interval.high))
