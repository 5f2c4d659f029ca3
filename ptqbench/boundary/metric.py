"""What a metric returns: numbers that it announced, finite, with their interval and what they rest on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ptqbench.boundary.call import Call
from ptqbench.boundary.values import count, described, number
from ptqbench.evaluate.evidence import Evidence
from ptqbench.evaluate.features import FeatureInfo
from ptqbench.roles.metric import Metric, MetricValue


def check_made(call: Call, metric: Metric) -> None:
    """What a metric says of itself."""
    if metric.better not in ("lower", "higher"):
        raise call.refused(f"has better = {metric.better!r}", 'better is "lower" or "higher"')
    if not isinstance(metric.reads, tuple) or not all(isinstance(name, str) for name in metric.reads):
        raise call.refused(f"has reads = {metric.reads!r}", 'reads is a tuple of outputs, such as ("pool",)')


def _names(call: Call, _: Metric, names: Callable[[FeatureInfo], list[str]], extractor: FeatureInfo) -> list[str]:
    found: Any = names(extractor)
    if not isinstance(found, list | tuple) or not found or not all(isinstance(name, str) and name for name in found):
        raise call.refused(f"announced {described(found)} as names", "return the names of its columns, a list of strings")
    if len(set(found)) < len(found):
        raise call.refused(f"announced a column twice: {', '.join(found)}", "each number has a name of its own")
    return list(found)


def _least_images(call: Call, _: Metric, least: Callable[[FeatureInfo], int], extractor: FeatureInfo) -> int:
    return count(call, "the least number of images", least(extractor), 0)


def _compute(
    call: Call, metric: Metric, compute: Callable[[Evidence], Mapping[str, MetricValue]], evidence: Evidence
) -> dict[str, MetricValue]:
    found: Any = compute(evidence)
    if not isinstance(found, Mapping):
        raise call.refused(f"returned {described(found)}", "return MetricValues by name")
    announced = metric.names(evidence.extractor)
    for name, value in found.items():
        if name not in announced:
            raise call.refused(f"gave the number {name!r}", f"names() announces {', '.join(announced)}")
        if not isinstance(value, MetricValue):
            raise call.refused(f"gave {described(value)} as {name}", "give a ptqbench.roles.metric.MetricValue")
    return {name: _checked(call, name, value) for name, value in found.items()}


def _checked(call: Call, name: str, v: MetricValue) -> MetricValue:
    """The same with plain floats and ints, as JSON takes them."""
    value, low, high = (number(call, f"{part} of {name}", getattr(v, part)) for part in ("value", "low", "high"))
    if low > high:
        raise call.refused(f"gave {name} the interval from {low:.6g} to {high:.6g}", "low is at most high")
    if not isinstance(v.unit, str) or not v.unit:
        raise call.refused(f"gave {described(v.unit)} as the unit of {name}", 'say in the plural what n counts: "images"')
    detail = {str(key): [number(call, f"{key} of {name}", x) for x in values] for key, values in v.detail.items()}
    replicates = [number(call, f"a replicate of {name}", x) for x in v.replicates]
    return MetricValue(value, low, high, count(call, f"n of {name}", v.n), detail, replicates, v.unit)


def _fingerprint(call: Call, _: Metric, fingerprint: Callable[[], str]) -> str:
    found: Any = fingerprint()
    if not isinstance(found, str):
        raise call.refused(f"gave {described(found)} as fingerprint", 'return a hash as text, or "" where no file is read')
    return found


CHECKS = {"names": _names, "least_images": _least_images, "fingerprint": _fingerprint, "compute": _compute}
