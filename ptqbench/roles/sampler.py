"""Calibration samplers: which (trajectory, step) pairs of the full-precision trajectories calibrate?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ptqbench.errors import UserError
from ptqbench.roles.base import WithOptions


@dataclass(frozen=True)
class TrajectoryGrid:
    """What a sampler may look at: `timesteps` (S,), noisiest first, and the number of trajectories.

    `modules` are the names of the denoiser's submodules in the order of their first call; `features(module, n)` runs the
    full-precision denoiser on the first n trajectories and gives that module's input at every step, (S, n, ...) float32 on the
    CPU; of a guided model, in the first of the branches that are calibrated.
    """

    timesteps: Tensor
    trajectories: int
    modules: tuple[str, ...] = ()
    features: Callable[[str, int], Tensor] | None = None

    @property
    def steps(self) -> int:
        return int(self.timesteps.shape[0])


@dataclass(frozen=True)
class Selection:
    """Chosen pairs: `trajectory` and `step`, each (n,) int64.

    A pair is a state; every branch of a guided model that is calibrated takes it, which gives a sample each.

    Step s names the input of sampling step s, which the denoiser receives with `timesteps[s]`; step S is the finished
    sample. `t` (n,) overrides the timestep label and exists for reproducing released code that mislabels its samples.
    """

    trajectory: Tensor
    step: Tensor
    t: Tensor | None = None


class CalibrationSampler(WithOptions, ABC):
    """Built as `Class(options)`; pure: the same grid, n and generator state give the same selection."""

    @abstractmethod
    def select(self, grid: TrajectoryGrid, n: int, rng: Generator) -> Selection:
        """Choose exactly n pairs. Raises `UserError` if the grid is too small for n."""


def require_pairs(name: str, grid: TrajectoryGrid, n: int) -> None:
    """Raises `UserError` if the grid has fewer than n pairs for the sampler of this name."""
    if n > grid.trajectories * grid.steps:
        raise UserError(
            f"the sampler {name} cannot choose {n} calibration samples from {grid.trajectories} trajectories of "
            f"{grid.steps} steps",
            "record more trajectories or lower the number of calibration samples",
        )


def deal(step: Tensor, trajectories: int, rng: Generator) -> Selection:
    """Pairs in random order for sorted steps (n,), with trajectories used as evenly as possible.

    A pair repeats only if a step stands there more often than there are trajectories.
    """
    n = len(step)
    # Dealing trajectories in turn to sorted steps gives equal steps different trajectories.
    trajectory = _order(trajectories, rng)[torch.arange(n, dtype=torch.int64, device="cpu") % trajectories]
    order = _order(n, rng)
    return Selection(trajectory=trajectory[order], step=step[order])


def _order(n: int, rng: Generator) -> Tensor:
    return torch.randperm(n, generator=rng, dtype=torch.int64, device="cpu")
