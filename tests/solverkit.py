"""Schedules of solvers for tests."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ptqbench_solvers import DdimOptions
from ptqbench_solvers.ddim import Ddim, DdimSchedule


def ddim(grid: str, steps: int, eta: float, alphas: Tensor, **options: Any) -> DdimSchedule:
    """DDIM's steps on cumulative alphas (T,)."""
    return Ddim(DdimOptions(**options)).schedule(alphas, grid, steps, eta)
