"""What a weighter returns: finite weights, detached, and the same for the same batch whatever was fitted before."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from ptqbench.boundary.call import Call, calling
from ptqbench.boundary.values import (
    Held,
    check_finite,
    check_held,
    check_named,
    check_tensor,
    described,
    fields,
    held,
    named_tensors,
    number,
)
from ptqbench.roles.weighter import Batch, InnerProblem, Requirements, SampleWeighter
from ptqbench.stage.counting import uncounted

_TWIN = "_boundary_twin"

_repeatable: set[tuple[type, str]] = set()
"""Classes and options of weighters of which two instances gave the same first weights, in this process."""

TENSORS = ("index", "step", "args", "kwargs", "target", "full_inputs", "sensitivity")


def check_made(call: Call, weighter: SampleWeighter) -> None:
    """What a weighter says of itself."""
    needs = weighter.requires
    if not isinstance(needs, Requirements):
        raise call.refused(f"requires {described(needs)}", "requires is a ptqbench.roles.weighter.Requirements")
    if not 0 <= needs.validation < 1 or needs.groups < 1:
        raise call.refused(f"requires {needs}", "validation is a share in [0, 1), and groups are 1 or more")
    if number(call, "cost", weighter.cost) <= 0:
        raise call.refused(f"gave {weighter.cost} as cost", "cost is above zero: 1 for uniform weights")


def _begin_unit(
    call: Call,
    weighter: SampleWeighter,
    begin: Callable[..., None],
    unit: str,
    phase: str,
    problem: InnerProblem,
    rng: Generator,
) -> None:
    before, start = held(named_tensors("problem.params", problem.params)), rng.get_state()
    begin(unit, phase, problem, rng)
    check_held(call, before)
    if _code(weighter) not in _repeatable:
        twin = type(weighter)(weighter.options)
        with calling(call), uncounted():
            twin.begin_unit(unit, phase, problem, torch.Generator(rng.device).set_state(start))
        weighter.__dict__[_TWIN] = twin


def _weights(
    call: Call, weighter: SampleWeighter, weights: Callable[..., Tensor], batch: Batch, problem: InnerProblem
) -> Tensor:
    before = _held(batch, problem)
    found = weights(batch, problem)
    check_held(call, before)
    _check_weights(call, found, batch)
    twin = weighter.__dict__.pop(_TWIN, None)
    if twin is not None:
        with calling(call), uncounted():
            again = twin.weights(batch, problem)
        if not torch.allclose(found, again, rtol=1e-3):
            remedy = "draw from the generator that begin_unit() gets, and keep nothing outside of the instance"
            raise call.refused("gave other weights when another instance was asked the same", remedy)
        _repeatable.add(_code(weighter))
    return found


def _pool(call: Call, weighter: SampleWeighter, pool: Callable[..., Any], problem: InnerProblem) -> Tensor | None:
    found = pool(problem)
    if found is None:
        return None
    n = len(problem.train_steps)
    if not isinstance(found, Tensor) or found.dtype != torch.int64 or found.dim() != 1 or not len(found):
        raise call.refused(
            f"returned {described(found)} as a pool", "return positions of training samples, int64, or None for all"
        )
    if not 0 <= int(found.min()) <= int(found.max()) < n or len(found.unique()) < len(found):
        raise call.refused(f"gave a pool of positions outside of 0..{n - 1}, or one of them twice", "name each sample once")
    return found


def _code(weighter: SampleWeighter) -> tuple[type, str]:
    return type(weighter), repr(weighter.options)


def _check_weights(call: Call, found: Any, batch: Batch) -> None:
    _check_detached(call, "weights", check_tensor(call, "weights", found, (len(batch),), batch.target[0]))
    least, most = map(float, found.aminmax())
    # One look in each iteration; what exactly is wrong is found out when something is.
    if 0 <= least <= most < math.inf and most > 0:
        return
    check_finite(call, "weights", found, "weights are finite: a division by zero, or losses that overflow?")
    if least < 0:
        below = f"{int((found < 0).sum())} of {len(batch)} weights below zero, the least {least:.3g}"
        raise call.refused(f"gave {below}", "weights are zero or more")
    raise call.refused("gave weights that are all zero", "at least one sample of each mini-batch must count")


def _part_weights(
    call: Call, _: SampleWeighter, part_weights: Callable[..., Mapping[str, Tensor]], batch: Batch, problem: InnerProblem
) -> dict[str, Tensor]:
    before = _held(batch, problem)
    found = check_named(call, "factors by part", part_weights(batch, problem))
    check_held(call, before)
    for name, factor in found.items():
        what = f"the factors of {name!r}"
        check_finite(call, what, _check_detached(call, what, check_tensor(call, what, factor, (len(batch),))))
    return found


def _report(call: Call, _: SampleWeighter, report: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return check_named(call, "a report", report())


def _check_detached(call: Call, what: str, value: Tensor) -> Tensor:
    if value.requires_grad:
        raise call.refused(f"gave {what} that are attached to the graph", f"weigh by numbers: return {what}.detach()")
    return value


def _held(batch: Batch, problem: InnerProblem) -> Held:
    return held([*fields("batch", batch, TENSORS), *named_tensors("problem.params", problem.params)])


CHECKS = {"begin_unit": _begin_unit, "pool": _pool, "weights": _weights, "part_weights": _part_weights, "report": _report}
