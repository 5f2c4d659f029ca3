"""What computes: seconds, and the last bits of sums, belong to a processor and an accelerator."""

from __future__ import annotations

import importlib.metadata
import platform
from functools import cache
from pathlib import Path

import torch

COMPUTING = ("torch", "torchvision", "diffusers", "numpy", "scipy", "pytorch-fid")
"""Packages that compute: another version of one may change any number."""

PACKAGES = ("torch", "diffusers", "numpy", "scipy", "pluggy")
"""Packages whose versions a record names."""

CPUINFO = Path("/proc/cpuinfo")
_KEYS = ("model name", "Hardware", "cpu model", "Processor")


def hardware(device: str) -> dict[str, str]:
    """The processor's model under "cpu" and, for a `device` that is none, its name under "accelerator"."""
    chosen = torch.device(device)
    if chosen.type == "cpu":
        return {"cpu": processor()}
    named = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else chosen.type
    return {"cpu": processor(), "accelerator": named}


@cache
def computing_packages() -> dict[str, str]:
    """Versions of the packages that compute."""
    return {name: importlib.metadata.version(name) for name in COMPUTING}


@cache
def processor() -> str:
    """The processor's model as the system names it, "" where it does not.

    Linux tells it in /proc/cpuinfo, under a key that depends on the architecture; elsewhere Python's `platform` knows.
    """
    try:
        lines = [line.partition(":") for line in CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return platform.processor()
    found = {key.strip(): " ".join(value.split()) for key, _, value in reversed(lines)}
    return next((found[key] for key in _KEYS if found.get(key)), platform.processor())
