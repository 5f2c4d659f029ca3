"""Comparing what takes time on a machine that does other things as well: in turn, in one process, by median ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Timing:
    """Seconds of one call, the median over rounds, and the median ratio to the reference in the same round."""

    seconds: float
    ratio: float


def interleaved(runs: Mapping[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, Timing]:
    """Time calls in turn, `rounds` times after one that does not count; ratios are to the first of `runs`.

    On a CPU seconds are those of the processor, which others' work disturbs less; elsewhere those of the wall.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for done in range(rounds + 1):
        for name, run in runs.items():
            start = _now(device)
            run()
            if done:
                seconds[name].append(_now(device) - start)
    first = next(iter(seconds.values()))
    ratios = {name: [a / b for a, b in zip(found, first, strict=True)] for name, found in seconds.items()}
    return {name: Timing(statistics.median(found), statistics.median(ratios[name])) for name, found in seconds.items()}


def once(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of a single call."""
    start = _now(device)
    run()
    return _now(device) - start


def _now(device: torch.device) -> float:
    if device.type == "cpu":
        return time.process_time()
    torch.accelerator.synchronize(device)
    return time.perf_counter()
