"""The calibration set: samples of full-precision trajectories, chosen by a sampler and split for training and validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from ptqbench.errors import CellFailedError
from ptqbench.quant.steps import step_group
from ptqbench.roles.sampler import Selection
from ptqbench.sampling.rng import permutation


@dataclass(frozen=True)
class CalibrationSet:
    """N samples: denoiser inputs x (N, C, H, W) float32, the timestep t (N,) that the denoiser receives, the sampling step
    (N,) in [0, S), the trajectory (N,) that each came from, and which of the calibrated branches (N,) it is evaluated in.

    `cond` are the conditions of all trajectories in all of those branches, each (trajectories, branches, ...): samples share
    them, and a text's are large.
    """

    x: Tensor
    t: Tensor
    step: Tensor
    trajectory: Tensor
    branch: Tensor
    cond: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.x.shape[0])

    @property
    def branches(self) -> int:
        """How many samples that follow each other are of one state."""
        return int(self.branch.max()) + 1

    def conditions(self, index: Tensor) -> dict[str, Tensor]:
        """The conditions of the samples at these places (n,)."""
        return {name: value[self.trajectory[index], self.branch[index]] for name, value in self.cond.items()}


def gather(
    selection: Selection,
    timesteps: Tensor,
    states: Callable[[int], Tensor],
    cond: Sequence[Mapping[str, Tensor]] = ({},),
) -> CalibrationSet:
    """Pair each chosen state with its own timestep, once in each branch. `states(i)` is trajectory i, (S + 1, C, H, W).

    `cond` are the conditions of all trajectories, by branch. Samples of one state follow each other.
    """
    last = int(timesteps.shape[0]) - 1
    x = torch.stack([states(int(i))[int(s)] for i, s in zip(selection.trajectory, selection.step, strict=True)])
    step = selection.step.clamp_max(last)
    t = timesteps[step] if selection.t is None else selection.t
    x, t, step, trajectory = (each.repeat_interleave(len(cond), 0) for each in (x, t, step, selection.trajectory))
    branch = torch.arange(len(cond), dtype=torch.int64, device="cpu").repeat(len(selection.step))
    tables = {name: torch.stack([table[name] for table in cond], dim=1) for name in cond[0]}
    return CalibrationSet(x, t, step, trajectory, branch, tables)


@dataclass(frozen=True)
class Split:
    """Positions of training and validation samples, and the step group (V,) of each validation sample."""

    train: Tensor
    validation: Tensor
    group: Tensor


def split(step: Tensor, steps: int, share: float, groups: int, rng: Generator, branches: int = 1) -> Split:
    """Hold out `share` of the samples, equally many from each of `groups` equal ranges of sampling steps.

    Every `branches` samples that follow each other are of one state, and stay together. Raises `CellFailedError` if a range has
    too few samples to give its part and keep at least one for training.
    """
    if share == 0:
        empty = torch.empty(0, dtype=torch.int64, device="cpu")
        return Split(torch.arange(len(step), dtype=torch.int64, device="cpu"), empty, empty)
    each = max(1, round(share * len(step) / branches / groups))
    membership = step_group(step[::branches], steps, groups)
    held: list[Tensor] = []
    for group in range(groups):
        members = (membership == group).nonzero().flatten()
        if len(members) <= each:
            raise CellFailedError(
                f"step group {group + 1} of {groups} has {len(members) * branches} calibration samples, too few to hold out "
                f"{each * branches}",
                "use fewer groups, a smaller validation share, or a sampler that reaches all steps",
            )
        held.append(members[permutation(len(members), rng)[:each]].sort().values)
    validation = (torch.cat(held)[:, None] * branches + torch.arange(branches, dtype=torch.int64, device="cpu")).flatten()
    train = torch.ones(len(step), dtype=torch.bool, device="cpu")
    train[validation] = False
    groups_of = torch.arange(groups, dtype=torch.int64, device="cpu").repeat_interleave(each * branches)
    return Split(train.nonzero().flatten(), validation, groups_of)
