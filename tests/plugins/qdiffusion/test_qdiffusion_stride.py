"""The sampler `stride`."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from enginekit import experiment

from ptqbench.errors import UserError
from ptqbench.roles.sampler import Selection, TrajectoryGrid
from ptqbench_qdiffusion import StrideOptions
from ptqbench_qdiffusion.sampler import StrideSampler


def select(
    n: int, points: int | Literal["all"], *, steps: int = 100, trajectories: int = 64, seed: int = 0, **options: bool
) -> Selection:
    grid = TrajectoryGrid(torch.arange(steps).flip(0) * 10, trajectories)
    rng = torch.Generator().manual_seed(seed)
    return StrideSampler(StrideOptions(points=points, **options)).select(grid, n, rng)


@pytest.mark.parametrize(("steps", "points"), [(100, 20), (100, 60), (51, 25), (20, 20), (7, 3), (10, 1)])
def test_exactly_the_asked_number_of_evenly_spaced_steps(steps: int, points: int) -> None:
    chosen = select(points * 8, points, steps=steps)
    found = chosen.step.unique()
    assert len(found) == points
    assert found[-1] == steps - 1
    if points > 1:
        assert found[0] == 0
        exact = torch.linspace(0, steps - 1, points, dtype=torch.float64)
        assert float((found - exact).abs().max()) <= 0.5 + 1e-9
        assert int(found.diff().max() - found.diff().min()) <= 1


def test_samples_are_spread_equally_with_the_rest_at_the_noisiest() -> None:
    counts = select(103, 20).step.bincount(minlength=100)
    assert counts[counts > 0].tolist() == [6] * 3 + [5] * 17


def test_fewer_samples_than_steps_still_reach_both_ends() -> None:
    assert select(5, 20).step.sort().values.tolist() == [0, 25, 50, 74, 99]
    assert select(50, "all").step.sort().values.tolist() == select(50, 50).step.sort().values.tolist()
    assert select(1, 20).step.tolist() == select(1, 1).step.tolist() == [99]


def test_pairs_are_distinct_and_trajectories_random_at_each_step() -> None:
    chosen = select(640, 10)
    assert len(set(zip(chosen.trajectory.tolist(), chosen.step.tolist(), strict=True))) == 640
    few = select(160, 10)
    sets = [frozenset(few.trajectory[few.step == step].tolist()) for step in few.step.unique()]
    assert len(set(sets)) == 10
    assert len(frozenset.union(*sets)) > 48
    assert few.t is None


def test_the_order_is_random_and_the_generator_decides() -> None:
    chosen, again, other = select(160, 10), select(160, 10), select(160, 10, seed=1)
    assert bool((chosen.step.diff() < 0).any())
    assert torch.equal(chosen.step, again.step) and torch.equal(chosen.trajectory, again.trajectory)
    assert not torch.equal(chosen.trajectory, other.trajectory)


def test_released_rule() -> None:
    chosen = select(26 * 4, 25, steps=51, compat=True)
    assert chosen.step.tolist() == [step for step in range(0, 51, 2) for _ in range(4)]
    assert chosen.trajectory.tolist() == list(range(4)) * 26
    published = select(20 * 3, 20, compat=True)
    assert published.step.unique().tolist() == list(range(0, 100, 5))
    # 100 // 60 is 1: every step, although 60 were asked for.
    assert select(100, 60, compat=True).step.tolist() == list(range(100))


@pytest.mark.parametrize("compat", [False, True])
def test_all_takes_every_step_equally_often(compat: bool) -> None:
    assert select(7 * 5, "all", steps=7, compat=compat).step.bincount().tolist() == [5] * 7


@pytest.mark.parametrize("compat", [False, True])
def test_too_small_grids_are_refused(compat: bool) -> None:
    with pytest.raises(UserError, match="needs 65 trajectories"):
        select(10 * 64 + 1, 10, compat=compat)
    with pytest.raises(UserError, match="cannot take 101 of 100 steps"):
        select(202, 101, compat=compat)


def test_more_points_than_sampling_steps_are_told_with_all_other_mistakes_of_a_recipe() -> None:
    words = ("sampling.images=1", "methods.qdiffusion.sampler={use='stride', points=6}")
    with pytest.raises(UserError, match="2 problems") as caught:
        experiment(*words)
    place = "methods.qdiffusion.sampler.points"
    assert f"{place}: must be at most 5, as many as there are sampling steps, not 6" in str(caught.value)
    assert "sampling.images: must be at least 2" in str(caught.value)
    for fits in ("methods.qdiffusion.sampler.points=5", 'methods.qdiffusion.sampler.points="all"'):
        experiment(fits)
