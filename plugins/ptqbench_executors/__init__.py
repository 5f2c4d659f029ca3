"""Executors: processes of this machine, and Ray for several machines.

Only light imports here, so that listing plugins never imports torch, and Ray is needed by none but those who ask for it.
"""

from __future__ import annotations

from pydantic import Field

from ptqbench import Component, Options, hookimpl


class RayOptions(Options):
    """Options of the executor `ray`."""

    address: str = Field(
        "", description='host:port of a running cluster, or "auto"; $RAY_ADDRESS, or this machine alone, if empty'
    )
    gpus: float = Field(1.0, gt=0, description="GPUs of each process where the device is one: 0.5 for two processes on each")


@hookimpl
def ptqbench_components() -> list[Component]:
    """local, ray."""
    return [
        Component("executor", "local", "processes of this machine", "ptqbench_executors.local:Local"),
        Component("executor", "ray", "Ray Core: processes of several machines", "ptqbench_executors.ray:Ray", RayOptions),
    ]
