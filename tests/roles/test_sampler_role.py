"""What calibration samplers share: the refusal of a grid that is too small, and dealing trajectories to steps."""

from __future__ import annotations

import pytest
import torch

from ptqbench.errors import UserError
from ptqbench.roles.sampler import TrajectoryGrid, deal, require_pairs


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dealt(counts: list[int], trajectories: int, seed: int = 0) -> list[tuple[int, int]]:
    step = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    found = deal(step, trajectories, rng(seed))
    assert torch.equal(found.step.sort().values, step)
    assert found.t is None
    return list(zip(found.trajectory.tolist(), found.step.tolist(), strict=True))


@pytest.mark.parametrize("counts", [[3, 0, 8, 5], [1, 1], [8, 8, 8, 8, 8]])
def test_trajectories_are_used_evenly_and_no_pair_twice(counts: list[int]) -> None:
    pairs = dealt(counts, 8)
    assert len(set(pairs)) == len(pairs) == sum(counts)
    uses = torch.tensor([trajectory for trajectory, _ in pairs]).bincount(minlength=8)
    assert int(uses.max() - uses.min()) <= 1


def test_a_pair_repeats_only_where_a_step_stands_there_more_often_than_trajectories() -> None:
    pairs = dealt([5, 2], 4)
    assert len(set(pairs)) == 6
    assert len({pair for pair in pairs if pair[1] == 1}) == 2


def test_trajectories_are_drawn_first_and_then_the_order() -> None:
    """What makes a selection repeatable: calibration sets are kept under the generator's seed."""
    step, source = torch.tensor([0, 0, 2, 2, 2, 3]), rng(7)
    trajectory = torch.randperm(4, generator=source).repeat(2)[:6]
    order = torch.randperm(6, generator=source)
    found = deal(step, 4, rng(7))
    assert torch.equal(found.trajectory, trajectory[order])
    assert torch.equal(found.step, step[order])


def test_too_many_samples_are_refused_by_the_samplers_name() -> None:
    grid = TrajectoryGrid(torch.arange(5), 3)
    require_pairs("mine", grid, 15)
    with pytest.raises(UserError, match="the sampler mine cannot choose 16 calibration samples from 3 trajectories of 5 steps"):
        require_pairs("mine", grid, 16)
