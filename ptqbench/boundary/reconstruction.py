"""What a reconstruction says: phases and their constants, within bounds; its progress, upwards in (0, 1]."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args, get_type_hints

from ptqbench.boundary.call import Call
from ptqbench.boundary.values import count, described, number
from ptqbench.roles.reconstruction import Course, Fit, Phase, Rate, Reconstruction

INPUTS = get_args(get_type_hints(Phase)["inputs"])


def check_made(call: Call, reconstruction: Reconstruction) -> None:
    """Its phases: named differently, each with kinds to learn."""
    phases: Any = reconstruction.phases
    if not isinstance(phases, tuple) or not all(isinstance(phase, Phase) for phase in phases):
        raise call.refused(f"has {described(phases)} as phases", "phases is a tuple of ptqbench.roles.reconstruction.Phase")
    names = [phase.name for phase in phases]
    if len(set(names)) < len(names):
        raise call.refused(f"names two phases alike: {', '.join(names)}", "results of a phase are kept under its name")
    for phase in phases:
        if not isinstance(phase.learns, frozenset) or not phase.learns:
            raise call.refused(f"learns {described(phase.learns)} in phase {phase.name!r}", "learns is a frozenset of kinds")
        if phase.inputs not in INPUTS:
            raise call.refused(f"gives units {phase.inputs!r} inputs in phase {phase.name!r}", f"one of {', '.join(INPUTS)}")


def _course(call: Call, _: Reconstruction, course: Callable[[Phase], Course], phase: Phase) -> Course:
    found = course(phase)
    if not isinstance(found, Course):
        raise call.refused(f"returned {described(found)}", "return a ptqbench.roles.reconstruction.Course")
    count(call, "iterations", found.iterations)
    count(call, "batch", found.batch)
    if not isinstance(found.rates, Mapping) or not all(isinstance(rate, Rate) for rate in found.rates.values()):
        raise call.refused(f"gave {described(found.rates)} as rates", "rates has a Rate for each kind of trainable")
    for kind, rate in found.rates.items():
        if number(call, f"the rate of {kind}", rate.start) < 0:
            raise call.refused(f"gave a rate of {rate.start} for {kind}", "rates are zero or more")
    if number(call, "power", found.power) <= 0:
        raise call.refused(f"gave {found.power} as power", "the exponent of the loss is above zero")
    for what in ("input_keep", "activation_keep"):
        if not 0 <= number(call, what, getattr(found, what)) <= 1:
            raise call.refused(f"gave {getattr(found, what)} as {what}", "a probability is in [0, 1]")
    return found


def _fit(call: Call, _: Reconstruction, fit: Callable[[Fit], Iterator[float]], unit: Fit) -> Iterator[float]:
    steps: Any = fit(unit)
    if not isinstance(steps, Iterator):
        raise call.refused(f"returned {described(steps)} from fit()", "yield the progress after each iteration")
    last = 0.0
    for progress in steps:
        if not last < number(call, "progress", progress) <= 1:
            raise call.refused(f"gave a progress of {progress} after {last}", "progress grows, in (0, 1]")
        last = float(progress)
        yield last


CHECKS = {"course": _course, "fit": _fit}
