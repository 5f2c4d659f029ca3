"""The sampler `random`."""

from __future__ import annotations

import pytest
import torch

from ptqbench.errors import UserError
from ptqbench.plugin.component import NoOptions
from ptqbench.roles.sampler import Selection, TrajectoryGrid
from ptqbench_nearest.sampler import RandomSampler

GRID = TrajectoryGrid(torch.arange(950, -1, -50), trajectories=30)


def select(n: int, seed: int = 0) -> Selection:
    return RandomSampler(NoOptions()).select(GRID, n, torch.Generator().manual_seed(seed))


def test_pairs_are_distinct_and_inside_the_grid() -> None:
    chosen = select(200)
    assert len(set(zip(chosen.trajectory.tolist(), chosen.step.tolist(), strict=True))) == 200
    assert chosen.t is None
    assert {chosen.trajectory.dtype, chosen.step.dtype} == {torch.int64}
    assert set(chosen.step.tolist()) <= set(range(GRID.steps))
    assert set(chosen.trajectory.tolist()) <= set(range(30))


def test_all_pairs_can_be_taken_but_no_more() -> None:
    chosen = select(GRID.steps * 30)
    assert torch.equal(chosen.step.bincount(), torch.full((GRID.steps,), 30))
    with pytest.raises(UserError, match="30 trajectories of 20 steps"):
        select(GRID.steps * 30 + 1)


def test_the_generator_decides() -> None:
    assert torch.equal(select(50).step, select(50).step)
    assert not torch.equal(select(50).step, select(50, seed=1).step)


def test_steps_are_uniform() -> None:
    counts = sum(select(100, seed).step.bincount(minlength=GRID.steps) for seed in range(100))
    chi_square = ((counts - 500).square() / 500).sum()
    assert float(chi_square) < 43.8  # 0.1 % quantile with 19 degrees of freedom
