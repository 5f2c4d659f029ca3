"""High-water marks of memory: resident on a CPU, allocated on an accelerator; stages may nest."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import torch

MIB = 2**20


@dataclass
class Peak:
    """The highest memory in MiB since a block began, as far as it has been looked at."""

    seen: float = 0.0

    def look(self) -> float:
        """The peak up to now. Only the innermost block may ask: the system keeps one mark."""
        self.seen = max(self.seen, peak_memory_mib())
        return self.seen


_open: ContextVar[Peak | None] = ContextVar("the innermost block whose memory is watched", default=None)


@contextlib.contextmanager
def watching_memory() -> Iterator[Peak]:
    """The peak of this block, which enclosing blocks have too: starting a new mark would hide what they reached before."""
    outer = _open.get()
    if outer is not None:
        outer.look()
    reset_peak_memory()
    peak = Peak()
    token = _open.set(peak)
    try:
        yield peak
    finally:
        peak.look()
        _open.reset(token)
        if outer is not None:
            outer.seen = max(outer.seen, peak.seen)


def reset_peak_memory() -> None:
    """Start a new mark, of resident memory where the system allows it (Linux); elsewhere that mark is the process's."""
    if _cuda_in_use():
        for device in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mib() -> float:
    """MiB: the most that torch had allocated on a CUDA device if this process uses one, else this process's resident memory."""
    if _cuda_in_use():
        return max(torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count())) / MIB
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fits_on(device: torch.device, needed: int) -> bool:
    """Whether `needed` more bytes leave at least half of a CUDA device's memory free; True for the host, False elsewhere."""
    if device.type != "cuda":
        return device.type == "cpu"
    free, whole = torch.cuda.mem_get_info(device)
    return free - needed >= whole / 2


def _cuda_in_use() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_initialized()
