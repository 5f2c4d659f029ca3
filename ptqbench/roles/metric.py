"""Metrics: one number about a cell's images or predictions, with interval and count."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ptqbench.evaluate.evidence import Evidence
from ptqbench.evaluate.features import FeatureInfo
from ptqbench.roles.base import WithOptions


@dataclass(frozen=True)
class MetricValue:
    """A number as a table shows it: value, interval (95 %) and the count n that it rests on.

    `unit` says in the plural what n counts, which are the independent values that the interval is over.
    `replicates` are the values with one block of ids left out at a time (`ptqbench.evaluate.intervals.partition`), in the
    order of the blocks. `detail` holds short named lists for reports (for example the error at each timestep).
    """

    value: float
    low: float
    high: float
    n: int
    detail: Mapping[str, list[float]] = field(default_factory=dict)
    replicates: Sequence[float] = ()
    unit: str = "images"


class Metric(WithOptions, ABC):
    """Built as `Class(options)`.

    `better` says which direction is good. `relative` is true for a metric against the full-precision model, which the
    full-precision row therefore does not have. `reads` names the extractor's outputs that `compute` asks for, for example
    ("pool",); an extractor without them is refused before anything is computed. `from_statistics` is true if a number against
    real images can be had from their features' mean and covariance alone; for other metrics a reference file that holds no
    images is refused. One that asks for `Evidence.prompts` says so with `needs_prompts`, and is refused where the model is told
    no text.
    """

    better: Literal["lower", "higher"] = "lower"
    relative = False
    reads: tuple[str, ...] = ()
    from_statistics = False
    needs_prompts = False

    @abstractmethod
    def names(self, extractor: FeatureInfo) -> list[str]:
        """Names of the numbers that `compute` may return, in column order.

        Each says its reference, and one on features the extractor: "psnr@fp", "fd-digits@data". Only with the published
        Inception features (`FeatureInfo.inception`) may a name such as "fid@data" stand without it.
        """

    def fingerprint(self) -> str:
        """SHA-256 (hex) over files that the options name, "" for none: what is in them counts, and not where they lie.

        Options that name files are best left out of dumps (`Field(exclude=True)`). Raises `UserError` if one cannot be read.
        """
        return ""

    def least_images(self, extractor: FeatureInfo) -> int:
        """How many generated images `compute` needs at least; a recipe with fewer is refused before anything is computed."""
        return 2

    @abstractmethod
    def compute(self, evidence: Evidence) -> Mapping[str, MetricValue]:
        """The numbers of one cell, by name. A name that does not apply to this cell is left out.

        Raises `CellFailedError` where a number would be meaningless (too few images, values that are not finite).
        """
