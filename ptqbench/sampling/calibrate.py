"""The calibration set: samples of full-precision trajectories, chosen by a sampler and split for training and validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from ptqbench.errors import CellFailedError
from ptqbench.quant.steps import step_group
from ptqbench.roles.sampler import Selection


@dataclass(frozen=True)
class CalibrationSet:
    """N samples: denoiser inputs x (N, C, H, W) float32, the timestep t (N,) that the denoiser receives, the sampling step
    (N,) in [0, S), the trajectory (N,) that each came from, and per-sample conditions."""

    x: Tensor
    t: Tensor
    step: Tensor
    trajectory: Tensor
    cond: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.x.shape[0])


def check_selection(selection: object, name: str, n: int, trajectories: int, steps: int) -> Selection:
    """What the sampler `name` chose: n pairs among `trajectories` trajectories of `steps` sampling steps.

    Raises `CellFailedError` that says what it chose and what there is: another type or count, pairs outside the grid, or
    finished samples (step `steps`) without a timestep of their own.
    """
    owner, remedy = f"the sampler {name!r}", "mend the sampler's select()"
    if not isinstance(selection, Selection):
        raise CellFailedError(f"{owner} chose {type(selection).__name__} instead of a Selection", remedy)
    limit = steps - 1 if selection.t is None else steps
    for what, chosen, most in (("trajectory", selection.trajectory, trajectories - 1), ("step", selection.step, limit)):
        if not isinstance(chosen, Tensor) or chosen.is_floating_point() or chosen.dim() != 1:
            got = f"{chosen.dtype} {tuple(chosen.shape)}" if isinstance(chosen, Tensor) else type(chosen).__name__
            raise CellFailedError(f"{owner} gave {what} as {got}, expected int64 ({n},)", remedy)
        if len(chosen) != n:
            raise CellFailedError(f"{owner} chose {len(chosen)} samples ({what}), the budget is {n}", remedy)
        outside = chosen[(chosen < 0) | (chosen > most)]
        if len(outside):
            raise CellFailedError(f"{owner} chose {what} {int(outside[0])}, there are 0..{most}", remedy)
    if selection.t is not None and tuple(selection.t.shape) != (n,):
        raise CellFailedError(f"{owner} gave t of shape {tuple(selection.t.shape)}, expected ({n},)", remedy)
    return selection


def gather(
    selection: Selection, timesteps: Tensor, states: Callable[[int], Tensor], cond: Mapping[str, Tensor]
) -> CalibrationSet:
    """Pair each chosen state with its own timestep. `states(i)` is trajectory i, (S + 1, C, H, W).

    The selection is one that `check_selection` let pass.
    """
    last = int(timesteps.shape[0]) - 1
    x = torch.stack([states(int(i))[int(s)] for i, s in zip(selection.trajectory, selection.step, strict=True)])
    step = selection.step.clamp_max(last)
    t = timesteps[step] if selection.t is None else selection.t
    return CalibrationSet(x, t, step, selection.trajectory, {k: v[selection.trajectory] for k, v in cond.items()})


@dataclass(frozen=True)
class Split:
    """Positions of training and validation samples, and the step group (V,) of each validation sample."""

    train: Tensor
    validation: Tensor
    group: Tensor


def split(step: Tensor, steps: int, share: float, groups: int, rng: Generator) -> Split:
    """Hold out `share` of the samples, equally many from each of `groups` equal ranges of sampling steps.

    Raises `CellFailedError` if a range has too few samples to give its part and keep at least one for training.
    """
    if share == 0:
        empty = torch.empty(0, dtype=torch.int64)
        return Split(torch.arange(len(step)), empty, empty)
    each = max(1, round(share * len(step) / groups))
    membership = step_group(step, steps, groups)
    held: list[Tensor] = []
    for group in range(groups):
        members = (membership == group).nonzero().flatten()
        if len(members) <= each:
            raise CellFailedError(
                f"step group {group + 1} of {groups} has {len(members)} calibration samples, too few to hold out {each}",
                "use fewer groups, a smaller validation share, or a sampler that reaches all steps",
            )
        held.append(members[torch.randperm(len(members), generator=rng)[:each]].sort().values)
    validation = torch.cat(held)
    train = torch.ones(len(step), dtype=torch.bool)
    train[validation] = False
    return Split(train.nonzero().flatten(), validation, torch.arange(groups).repeat_interleave(each))
