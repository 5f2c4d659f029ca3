"""Contract of the role: a schedule with a label for each step, whose updates are calls into the plugin."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ptqbench.boundary.call import Call, wrapped
from ptqbench.roles.solver import Schedule, Update


def _schedule(call: Call, _: Any, found: Any, *args: Any) -> Schedule:
    if not isinstance(found, Schedule):
        raise call.refused(f"returned {type(found).__name__} from schedule()", "return a ptqbench.roles.solver.Schedule")
    steps, alpha = found.timesteps, found.alpha
    if not isinstance(steps, Tensor) or steps.dim() != 1 or not len(steps) or alpha.shape != steps.shape:
        raise call.refused("gave timesteps and alphas that are not (S,) both", "give one of each for every prediction")
    start = wrapped(Call(call.owner, "start"), found.start)

    def guarded() -> Update:
        return wrapped(Call(call.owner, "update"), start())

    object.__setattr__(found, "start", guarded)
    return found


CHECKS = {"schedule": _schedule}
