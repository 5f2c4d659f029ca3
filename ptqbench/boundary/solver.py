"""What a solver returns: a schedule with a timestep and an alpha for each prediction, whose updates give the next latent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ptqbench.boundary.call import Call, wrapped
from ptqbench.boundary.values import check_finite, check_held, check_tensor, cumulative, described, held
from ptqbench.roles.solver import Schedule, Solver, StepNoise, Update


def check_made(call: Call, solver: Solver) -> None:
    """What a solver says of itself."""
    grids: Any = solver.grids
    if not isinstance(grids, tuple) or not grids or not all(isinstance(grid, str) for grid in grids):
        raise call.refused(f"has grids = {grids!r}", "grids are the spacings that it knows, the usual one first")


def _schedule(call: Call, solver: Solver, schedule: Callable[..., Schedule], *args: Any) -> Schedule:
    found: Any = schedule(*args)
    if not isinstance(found, Schedule):
        raise call.refused(f"returned {described(found)}", "return a ptqbench.roles.solver.Schedule")
    steps, alpha = found.timesteps, found.alpha
    dtype = torch.float32 if solver.flow else torch.int64
    if not isinstance(steps, Tensor) or steps.dtype != dtype or steps.dim() != 1 or not len(steps):
        what = f"timesteps are {str(dtype).removeprefix('torch.')} (S,), one for each prediction"
        raise call.refused(f"gave {described(steps)} as timesteps", what)
    check_finite(call, "timesteps", steps)
    check_finite(call, "alpha", check_tensor(call, "alpha", alpha, steps.shape))
    if alpha.dtype != torch.float64 or not cumulative(alpha, flow=solver.flow):
        raise call.refused("gave alphas that are no cumulative ones", "alpha is float64 (S,), within (0, 1]")
    starting, updating = Call(call.owner, "start"), Call(call.owner, "update")
    start = wrapped(starting, found.start)

    def guarded() -> Update:
        update = wrapped(updating, start())

        def checked(s: int, x: Tensor, eps: Tensor, noise: Tensor | None, planned: StepNoise) -> Tensor:
            before = held([("x", x), ("eps", eps)])
            after = check_tensor(updating, "the next latent", update(s, x, eps, noise, planned), x.shape, x)
            check_held(updating, before)
            return after

        return checked

    object.__setattr__(found, "start", guarded)
    return found


CHECKS = {"schedule": _schedule}
