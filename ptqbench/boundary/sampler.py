"""What a calibration sampler chooses: exactly n pairs inside the grid, the same ones whenever it is asked again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import torch
from torch import Generator, Tensor

from ptqbench.boundary.call import Call
from ptqbench.boundary.values import check_held, described, held
from ptqbench.roles.sampler import CalibrationSampler, Selection, TrajectoryGrid


def _select(
    call: Call, _: CalibrationSampler, select: Callable[..., Selection], grid: TrajectoryGrid, n: int, rng: Generator
) -> Selection:
    if grid.features is not None:
        grid = replace(grid, features=cache(grid.features))
    again, before = torch.Generator().set_state(rng.get_state()), held([("the grid's timesteps", grid.timesteps)])
    found = select(grid, n, rng)
    check_selection(call, found, grid, n)
    check_held(call, before)
    if not _equal(found, select(grid, n, again)):
        raise call.refused(
            "chose other pairs when it was asked again", "draw from the generator that it gets, and keep nothing"
        )
    return found


def check_selection(call: Call, found: object, grid: TrajectoryGrid, n: int) -> None:
    """n pairs of int64 inside the grid; a finished sample (step S) needs a timestep of its own."""
    if not isinstance(found, Selection):
        raise call.refused(f"chose {described(found)} instead of a Selection", "return ptqbench.roles.sampler.Selection")
    last = grid.steps - 1 if found.t is None else grid.steps
    for what, chosen, most in (("trajectory", found.trajectory, grid.trajectories - 1), ("step", found.step, last)):
        if not isinstance(chosen, Tensor) or chosen.dtype != torch.int64 or chosen.dim() != 1:
            raise call.refused(f"gave {described(chosen)} as {what}", f"{what} is a tensor of int64 ({n},)")
        if len(chosen) != n:
            raise call.refused(f"chose {len(chosen)} samples ({what})", f"the budget is {n}, neither more nor less")
        outside = chosen[(chosen < 0) | (chosen > most)]
        if len(outside):
            raise call.refused(f"chose {what} {int(outside[0])}", f"there are 0..{most}")
    if found.t is not None:
        t = found.t
        if not isinstance(t, Tensor) or tuple(t.shape) != (n,) or t.is_complex() or not bool(torch.isfinite(t).all()):
            raise call.refused(f"gave {described(t)} as t", f"t is a tensor of timesteps ({n},)")


def _equal(one: Selection, other: Selection) -> bool:
    pairs = ((one.trajectory, other.trajectory), (one.step, other.step), (one.t, other.t))
    return all(a is b or (a is not None and b is not None and torch.equal(a, b)) for a, b in pairs)


CHECKS = {"select": _select}
