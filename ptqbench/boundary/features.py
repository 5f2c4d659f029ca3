"""What a feature extractor returns: the outputs that it announced, a finite row for each image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ptqbench.boundary.call import Call
from ptqbench.boundary.values import check_finite, check_held, check_named, check_tensor, count, described, held
from ptqbench.roles.features import POOL, FeatureExtractor


def _outputs(call: Call, _: FeatureExtractor, outputs: Callable[[], Mapping[str, int]]) -> dict[str, int]:
    found = outputs()
    if not isinstance(found, Mapping) or POOL not in found:
        raise call.refused(f"announced {described(found)}", f'return widths by name, "{POOL}" among them')
    return {str(name): count(call, f"the width of {name!r}", width) for name, width in found.items()}


def _extract(
    call: Call, extractor: FeatureExtractor, extract: Callable[[Tensor], Mapping[str, Tensor]], images: Tensor
) -> dict[str, Tensor]:
    before = held([("the images", images)])
    found = check_named(call, "features by output", extract(images))
    check_held(call, before)
    widths = extractor.outputs()
    if missing := sorted(set(widths) - set(found)):
        raise call.refused(f"gave no {', '.join(missing)}", "extract() gives all that outputs() announces")
    for name, width in widths.items():
        check_finite(
            call, f"the output {name!r}", check_tensor(call, f"the output {name!r}", found[name], (len(images), width))
        )
    return found


def check_fingerprint(call: Call, _: Any, fingerprint: Callable[[], str]) -> str:
    """A hash as text, which is not empty."""
    found = fingerprint()
    if not isinstance(found, str) or not found:
        raise call.refused(f"gave {described(found)} as a fingerprint", "return a SHA-256 as text: it is part of cache keys")
    return found


CHECKS = {"fingerprint": check_fingerprint, "outputs": _outputs, "extract": _extract}
