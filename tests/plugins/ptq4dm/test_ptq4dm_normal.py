"""The sampler `normal`."""

from __future__ import annotations

import math

import pytest
import torch

from ptqbench.errors import UserError
from ptqbench.roles.sampler import Selection, TrajectoryGrid
from ptqbench_ptq4dm import NormalOptions
from ptqbench_ptq4dm.sampler import NormalSampler


def select(n: int, trajectories: int, steps: int = 50, seed: int = 0, **options: float | bool) -> Selection:
    grid = TrajectoryGrid(torch.arange(steps).flip(0) * 20, trajectories)
    return NormalSampler(NormalOptions(**options)).select(grid, n, torch.Generator().manual_seed(seed))


def normal_cdf(x: float) -> float:
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def test_steps_follow_the_clamped_normal_distribution() -> None:
    n, steps = 20_000, 50
    shares = select(n, n, steps).step.bincount(minlength=steps).flip(0) / n
    for k, share in enumerate(shares.tolist()):
        low = 0.0 if k == 0 else normal_cdf((k / steps - 0.4) / 0.4)
        high = 1.0 if k == steps - 1 else normal_cdf(((k + 1) / steps - 0.4) / 0.4)
        sigma = math.sqrt((high - low) / n)
        assert abs(share - (high - low)) < 5 * sigma


def test_one_step_per_trajectory_while_there_are_enough() -> None:
    chosen = select(60, 64)
    assert chosen.trajectory.unique().numel() == 60
    assert chosen.t is None


def test_trajectories_are_reused_evenly_and_pairs_distinct_where_possible() -> None:
    chosen = select(500, 128)
    counts = chosen.trajectory.bincount(minlength=128)
    assert int(counts.max() - counts.min()) <= 1
    assert int(chosen.step.bincount().max()) <= 128
    assert len(set(zip(chosen.trajectory.tolist(), chosen.step.tolist(), strict=True))) == 500


def test_step_and_place_in_the_selection_are_unrelated() -> None:
    chosen = select(2000, 2000)
    place = torch.arange(2000.0)
    for other in (chosen.step, chosen.trajectory):
        assert abs(float(torch.corrcoef(torch.stack([place, other.float()]))[0, 1])) < 0.1
    assert abs(float(torch.corrcoef(torch.stack([chosen.trajectory.float(), chosen.step.float()]))[0, 1])) < 0.1


def test_small_timesteps_are_preferred_and_each_state_has_its_own() -> None:
    chosen = select(1000, 1000)
    assert float(chosen.step.double().mean()) / 49 > 0.55
    assert chosen.t is None


def test_the_released_code_has_the_same_timesteps_and_the_states_of_others() -> None:
    right, released = select(300, 300), select(300, 300, compat=True)
    assert torch.equal(released.trajectory, right.trajectory)
    assert released.t is not None
    assert torch.equal(released.t, 49 - right.step)
    assert torch.equal(released.step, released.t + 1)
    assert int(released.step.max()) == 50


def test_the_generator_decides() -> None:
    assert torch.equal(select(60, 64).step, select(60, 64).step)
    assert not torch.equal(select(60, 64).step, select(60, 64, seed=1).step)


def test_more_samples_than_pairs_are_refused() -> None:
    assert len(select(100, 2).step) == 100
    with pytest.raises(UserError, match="2 trajectories of 50 steps"):
        select(101, 2)
