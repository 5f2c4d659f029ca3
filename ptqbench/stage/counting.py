"""How many samples went through the denoiser, and through single units of it, while stages were computed.

Every stage result has a tally: its own evaluations, and those of all results that it was made from, by name. Tallies are
united, never added up, so what several stages share (calibration trajectories, say) counts once in whatever needs it, also
where it was read from the cache.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Evaluations:
    """Samples that went forward through the whole denoiser, and through a single unit of it.

    A pass that stops early, at the unit whose inputs it was to record, counts whole.
    """

    denoiser: int = 0
    unit: int = 0

    def __add__(self, other: Evaluations) -> Evaluations:
        return Evaluations(self.denoiser + other.denoiser, self.unit + other.unit)


Tally = dict[str, Evaluations]
"""Evaluations by the name of the stage result ("stage/key") that they were made for."""

_open: ContextVar[tuple[str, Tally] | None] = ContextVar("open", default=None)
"""Name and tally of the innermost result that is being computed."""


@contextlib.contextmanager
def counting(name: str, tally: Tally) -> Iterator[None]:
    """What is evaluated in this block is entered in `tally` under `name`; an enclosing block's tally takes it over."""
    token = _open.set((name, tally))
    try:
        yield
    finally:
        _open.reset(token)
        include(tally)


@contextlib.contextmanager
def uncounted() -> Iterator[None]:
    """What is evaluated in this block is no part of what anything took."""
    token = _open.set(None)
    try:
        yield
    finally:
        _open.reset(token)


def include(tally: Mapping[str, Evaluations]) -> None:
    """The result that is being computed, if any, rests on results with this tally."""
    if (current := _open.get()) is not None:
        current[1].update(tally)


def count_denoiser(samples: int) -> None:
    """Note that samples go through the whole denoiser; outside any stage nothing is noted."""
    _count(Evaluations(denoiser=samples))


def count_unit(samples: int) -> None:
    """Note that samples go through a single unit; outside any stage nothing is noted."""
    _count(Evaluations(unit=samples))


def _count(more: Evaluations) -> None:
    if (current := _open.get()) is not None:
        name, tally = current
        tally[name] = tally.get(name, Evaluations()) + more
