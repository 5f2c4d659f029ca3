"""How much brighter or darker images are than those of full precision from the same noise."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field

from ptqbench import Component, Options, hookimpl
from ptqbench.evaluate.evidence import Evidence
from ptqbench.evaluate.features import FeatureInfo
from ptqbench.evaluate.intervals import mean_interval, partition
from ptqbench.roles.metric import Metric, MetricValue


class ExampleOptions(Options):
    """What a recipe may set."""

    top: float = Field(255.0, gt=0, description="what counts as 1")


class Example(Metric):
    """Mean over images of |mean(ours) - mean(theirs)| / top."""

    options: ExampleOptions
    better = "lower"
    relative = True

    def names(self, extractor: FeatureInfo) -> list[str]:
        """Columns of the table; "@fp" says what it is measured against."""
        return ["example@fp"]

    def compute(self, evidence: Evidence) -> Mapping[str, MetricValue]:
        """One number with its interval, and its values with a block of images left out, which differences of methods need."""
        parts = [
            (ours.double().mean((1, 2, 3)) - theirs.double().mean((1, 2, 3))).abs() / self.options.top
            for ours, theirs in evidence.pairs()
        ]
        values = torch.cat(parts).numpy()
        interval, block = mean_interval(values), partition(len(values))
        replicates = [float(values[block != i].mean()) for i in range(block.max() + 1)]
        found = MetricValue(interval.value, interval.low, interval.high, len(values), replicates=replicates)
        return {"example@fp": found}


@hookimpl
def ptqbench_components() -> list[Component]:
    return [Component("metric", "example", "difference in brightness", Example, ExampleOptions)]
