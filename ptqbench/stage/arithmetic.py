"""What a run holds fixed while numbers are made: threads, float32 in earnest, kernels in one order, torch's own attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ptqbench.boundary.watch import Turns, called_since, turns
from ptqbench.failures import PluginFault
from ptqbench.process.shared import ONE_THREAD, UNKNOWN, Shared
from ptqbench.process.snapshot import listed, remedies
from ptqbench.process.torch_settings import torch_settings

Check = Callable[[], None]
"""Raises `PluginFault` if anything that was fixed has moved."""

_ON_CALL = ("inference mode", "grad mode")
"""Modes that are entered and left, which has no setter that undoes itself."""

_threads: int | None = None
"""The number of threads that this process was told; None before anybody said one."""


def fix_arithmetic(threads: int) -> None:
    """From now on compute with `threads` CPU threads, in full float32, and with deterministic convolutions.

    On a CPU the number of threads decides the order of sums, and so their last bits. On CUDA torch lets cuDNN round
    operands to TF32 (10 bits of mantissa) unless it is told not to, while the protocol says float32; and cuDNN may choose
    kernels that add up in any order, while a resumed run must give an uninterrupted one's numbers.
    """
    global _threads
    _threads = threads
    _set(_fixed(threads))


@contextmanager
def arithmetic(threads: int | None = None) -> Iterator[Check]:
    """The same for a block, which gets a check that it still holds; at the end everything is what it was before.

    Without `threads` it is the number that this process was told last. A plugin that moves a setting for good, or the caller
    of a run in a process that computes other things as well, has no part in numbers, nor do they in what comes after. Another
    thread that computes waits until the block has ended: settings are the process's.
    """
    global _threads
    with ONE_THREAD:
        told = _threads
        _threads = torch.get_num_threads() if threads is None and told is None else threads or told
        before = {name: shared.read() for name, shared in torch_settings().items() if name not in _ON_CALL}
        values, calls = _fixed(_threads), turns()
        try:
            with torch.inference_mode(False), torch.enable_grad():
                _set(values)
                yield lambda: _check(values, calls)
        finally:
            _threads = told
            _set(before)


def _fixed(threads: int | None) -> dict[str, Any]:
    """The values of all settings: a fresh process's, but for what torch leaves to kernels and machines."""
    settings = torch_settings()
    values = {name: shared.fresh for name, shared in settings.items() if shared.fresh is not UNKNOWN}
    values |= {name: "ieee" for name in settings if name.endswith(".fp32_precision")}
    values |= {name: False for name in settings if name.endswith(".allow_tf32")}
    return values | {"threads": threads, "matmul precision": "highest", "cudnn.deterministic": True}


def _set(values: dict[str, Any]) -> None:
    settings = torch_settings()
    # Twice, because one word for precision may change others.
    for _ in range(2):
        for name, value in values.items():
            if settings[name].read() != value:
                settings[name].write(value)


def _check(values: dict[str, Any], calls: Turns) -> None:
    settings = torch_settings()
    moved: list[Shared] = [settings[name] for name, value in values.items() if settings[name].read() != value]
    if moved:
        suspects = ", ".join(called_since(calls)) or "something in the process"
        raise PluginFault(f"{listed(moved)} moved while numbers were made, in code of {suspects}", remedies(moved))
