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

GROUPS = Path("/sys/fs/cgroup")
"""Where Linux tells limits of groups of processes: those of a container, or of a job of a batch system."""


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


def free_memory_mib() -> float | None:
    """MiB of the host's memory that processes may still take: what the system calls available, or what the tightest limit of
    the groups that this process is in leaves. None where nothing tells."""
    found = []
    with contextlib.suppress(OSError):
        found.append(_numbers(Path("/proc/meminfo"))["MemAvailable"] / 1024)
    with contextlib.suppress(OSError):
        own = GROUPS / Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
        for group in (own, *own.parents):
            if group.is_relative_to(GROUPS) and (limit := _read(group / "memory.max")).isdecimal():
                # Files that are cached there are given up when somebody needs the room.
                cached = _numbers(group / "memory.stat").get("inactive_file", 0)
                found.append((int(limit) - int(_read(group / "memory.current")) + cached) / MIB)
    return min(found, default=None)


def _read(path: Path) -> str:
    return path.read_text().strip() if path.is_file() else ""


def _numbers(path: Path) -> dict[str, int]:
    """Lines such as "name: 12 kB" or "name 12"."""
    words = (line.replace(":", " ").split() for line in path.read_text().splitlines())
    return {found[0]: int(found[1]) for found in words if len(found) > 1 and found[1].isdecimal()}


def fits_on(device: torch.device, needed: int) -> bool:
    """Whether `needed` more bytes leave at least half of a CUDA device's memory free; True for the host, False elsewhere."""
    if device.type != "cuda":
        return device.type == "cpu"
    free, whole = torch.cuda.mem_get_info(device)
    return free - needed >= whole / 2


def _cuda_in_use() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_initialized()
