"""Selections outside of the grid are refused, and so is a sampler that chooses others when it is asked again."""

import pytest
import torch
from boundarykit import answering, make

from ptqbench.errors import PluginError
from ptqbench.roles.sampler import CalibrationSampler, Selection, TrajectoryGrid

GRID = TrajectoryGrid(torch.tensor([801, 601, 401, 201, 1]), trajectories=8)
THREE = torch.tensor([1, 1, 1])


def select(answer, grid=GRID):
    sampler = make("sampler", answering(CalibrationSampler, select=answer))
    return sampler.select(grid, 3, torch.Generator().manual_seed(0))


def steps(*chosen, t=None):
    return Selection(torch.tensor([2, 0, 1]), torch.tensor(chosen), t)


OUTSIDE = {
    "trajectory": (Selection(torch.tensor([2, 999, 1]), THREE), "chose trajectory 999", "there are 0..7"),
    "negative trajectory": (Selection(torch.tensor([2, -1, 1]), THREE), "chose trajectory -1", "there are 0..7"),
    "finished without t": (steps(5, 0, 0), "chose step 5", "there are 0..4"),
    "negative step": (steps(-1, 0, 0), "chose step -1", "there are 0..4"),
    "beyond finished": (steps(6, 0, 0, t=THREE), "chose step 6", "there are 0..5"),
    "count": (Selection(THREE[:2], THREE), "chose 2 samples (trajectory)", "the budget is 3"),
    "fractions": (Selection(THREE, THREE.float()), "gave float32 (3,) as step", "int64 (3,)"),
    "32 bits": (Selection(THREE.int(), THREE), "gave int32 (3,) as trajectory", "int64 (3,)"),
    "labels": (steps(0, 0, 0, t=THREE[:2]), "gave int64 (2,) as t", "(3,)"),
    "no labels": (steps(0, 0, 0, t=[1, 2, 3]), "gave list as t", "(3,)"),
    "pairs": ([(0, 1)], "chose list instead of a Selection", "roles.sampler.Selection"),
    "nothing": (None, "chose nothing instead", "roles.sampler.Selection"),
}


@pytest.mark.parametrize(("selection", "words", "remedy"), OUTSIDE.values(), ids=OUTSIDE)
def test_a_selection_outside_the_grid_is_refused(selection, words, remedy):
    with pytest.raises(PluginError) as caught:
        select(selection)
    assert caught.value.message.startswith(f'the sampler "trial" of plugin "trial.py" {words}')
    assert remedy in caught.value.hint
    assert caught.value.hint.endswith("mend its select()")


def test_a_selection_inside_the_grid_is_taken():
    inside = steps(5, 0, 4, t=THREE)
    assert select(inside) is inside


def test_a_sampler_that_draws_from_the_global_stream_or_remembers_is_refused():
    seen = []

    def remembering(self, grid, n, rng):
        seen.append(n)
        return steps(*[len(seen) % 5] * n)

    def unseeded(self, grid, n, rng):
        return steps(*torch.randint(0, 5, (n,)).tolist())

    def seeded(self, grid, n, rng):
        return steps(*torch.randint(0, 5, (n,), generator=rng).tolist())

    for wrong, words in ((remembering, "chose other pairs when it was asked"), (unseeded, "moved the random stream of torch")):
        with pytest.raises(PluginError, match=words) as caught:
            select(wrong)
        assert "generator" in caught.value.hint
    assert torch.equal(select(seeded).step, select(seeded).step)


def test_features_of_the_network_are_computed_once_for_both_questions():
    asked = []

    def features(module, n):
        asked.append((module, n))
        return torch.zeros(5, n, 2)

    def by_features(self, grid, n, rng):
        grid.features("mid", 4)
        return steps(0, 1, 2)

    select(by_features, TrajectoryGrid(GRID.timesteps, 8, ("mid",), features))
    assert asked == [("mid", 4)]


def test_a_sampler_that_writes_into_the_grid_is_refused():
    def writing(self, grid, n, rng):
        grid.timesteps.add_(1)
        return steps(0, 1, 2)

    with pytest.raises(PluginError, match="wrote into the grid's timesteps"):
        select(writing, TrajectoryGrid(GRID.timesteps.clone(), 8))
