"""Hand-made evidence with given features, and numbers of a metric on it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ptqbench.evaluate.chunks import Chunks
from ptqbench.evaluate.evidence import Evidence
from ptqbench.evaluate.features import FeatureSet
from ptqbench.roles.features import FeatureInfo
from ptqbench.roles.metric import MetricValue
from ptqbench_metrics import ptqbench_components


def evidence_of(size: int = 0, data: FeatureSet | None = None, fp: Tensor | None = None, **outputs: Tensor) -> Evidence:
    """Evidence of a quantized cell with these features, in parts of `size`."""
    none = Chunks.of(torch.zeros(2, 1, 2, 2, dtype=torch.uint8))

    def sets(which: str, output: str) -> FeatureSet | None:
        if which == "data":
            return data
        rows = fp if which == "fp" else outputs[output]
        return None if rows is None else FeatureSet(Chunks.of(rows, size), rows.shape[1])

    info = FeatureInfo("digits", {name: rows.shape[1] for name, rows in outputs.items()})
    return Evidence(none, none, sets, info, torch.zeros(2, 2), torch.arange(2), torch.ones(2), False)


def numbers(name: str, given: Evidence, **options: Any) -> dict[str, MetricValue]:
    """What a metric finds."""
    component = next(c for c in ptqbench_components() if c.name == name)
    return dict(component.create(component.options(**options)).compute(given))


def number(name: str, given: Evidence, **options: Any) -> MetricValue:
    """The one number of a metric."""
    (found,) = numbers(name, given, **options).values()
    return found
