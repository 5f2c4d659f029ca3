"""Metrics: one number about a cell's images or predictions, with interval and count."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ptqbench.component import Options

if TYPE_CHECKING:
    from ptqbench.evaluate.evidence import Evidence


@dataclass(frozen=True)
class MetricValue:
    """A number as a table shows it: value, interval (95 %) and the count n that it rests on.

    `replicates` are the values with one block of ids left out at a time (`ptqbench.evaluate.intervals.partition`), in the
    order of the blocks. `detail` holds short named lists for reports (for example the error at each timestep).
    """

    value: float
    low: float
    high: float
    n: int
    detail: Mapping[str, list[float]] = field(default_factory=dict)
    replicates: Sequence[float] = ()


class Metric(ABC):
    """Built as `Class(options)`.

    `better` says which direction is good. `relative` is true for a metric against the full-precision model, which the
    full-precision row therefore does not have.
    """

    better: Literal["lower", "higher"] = "lower"
    relative = False

    def __init__(self, options: Options) -> None:
        self.options = options

    @abstractmethod
    def names(self, feature_name: str) -> list[str]:
        """Names of the numbers that `compute` may return, in column order.

        Each says its reference, and one on features the extractor `feature_name`: "psnr@fp", "fd-digits@data".
        """

    @abstractmethod
    def compute(self, evidence: Evidence) -> Mapping[str, MetricValue]:
        """The numbers of one cell, by name. A name that does not apply to this cell is left out.

        Raises `CellFailedError` where a number would be meaningless (too few images, values that are not finite).
        """
