"""Step groups: equal ranges of sampling steps."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

Steps = TypeVar("Steps", int, Tensor)


def step_group(step: Steps, steps: int, groups: int) -> Steps:
    """The group, in [0, groups), of a sampling step in [0, steps), or of each of several (N,)."""
    return step * groups // steps
