"""What a range estimator returns: a positive scale and an integral zero point for each row that it saw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ptqbench.boundary.call import Call
from ptqbench.boundary.values import check_finite, check_held, check_tensor, described, held
from ptqbench.quant.grid import Levels
from ptqbench.roles.range import RangeEstimator

_ROWS = "_boundary_rows"


def _observe(call: Call, estimator: RangeEstimator, observe: Callable[[Tensor], None], values: Tensor) -> None:
    before = held([("the values", values)])
    observe(values)
    check_held(call, before)
    # Rows and device, without the values.
    estimator.__dict__[_ROWS] = values.new_empty(len(values), 0)


def _grid(call: Call, estimator: RangeEstimator, grid: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    found: Any = grid()
    if not isinstance(found, tuple) or len(found) != 2:
        raise call.refused(f"returned {described(found)} as a grid", "return scale and zero point, a tuple of two tensors")
    seen = estimator.__dict__.get(_ROWS)
    check_grid(call, *found, estimator.levels, (None if seen is None else len(seen),), seen)
    return found


def check_grid(
    call: Call,
    scale: Any,
    zero_point: Any,
    levels: Levels,
    shape: tuple[int | None, ...],
    like: Tensor | None = None,
    *,
    final: bool = True,
) -> None:
    """Scales > 0 and zero points that are 0 where the levels are symmetric or start at zero, and integral once `final`."""
    for what, table in (("scale", scale), ("zero point", zero_point)):
        check_finite(call, what, check_tensor(call, what, table, shape, like))
    if not bool((scale > 0).all()):
        raise call.refused(f"gave a scale of {float(scale.min()):.3g}", "scales are above zero (SCALE_FLOOR is the least)")
    if final and not torch.equal(zero_point, zero_point.round()):
        raise call.refused("gave a zero point between two codes", "round it: zero points are codes")
    if (levels.symmetric or levels.nonnegative) and bool(zero_point.any()):
        which = "symmetric" if levels.symmetric else "for values from zero on"
        raise call.refused(f"gave a zero point of {float(zero_point.abs().max()):.3g}", f"the grid is {which}: it is 0 there")


CHECKS = {"observe": _observe, "grid": _grid}
