"""The calibration set and its validation split."""

import pytest
import torch
from enginekit import cell_of, context, experiment

from ptqbench.errors import CellFailedError
from ptqbench.roles.sampler import Selection
from ptqbench.running.cell import cell_quantizer
from ptqbench.sampling.calibrate import gather, split
from ptqbench.sampling.reference import calibration_key, calibration_set, trajectory_shard, trajectory_shards
from ptqbench.sampling.rng import stream
from ptqbench.stage.cache import Costs

TIMESTEPS = torch.tensor([801, 601, 401, 201, 1])
STATES = torch.arange(3 * 6.0).reshape(3, 6, 1, 1, 1)
"""State s of trajectory i is the number 6 i + s."""


def chosen(step, t=None):
    return Selection(torch.tensor([2, 0, 1]), torch.tensor(step), t)


def test_each_state_is_paired_with_its_own_timestep_and_condition():
    found = gather(chosen([0, 4, 2]), TIMESTEPS, lambda i: STATES[i], [{"label": torch.tensor([10, 11, 12])}])
    assert found.x.flatten().tolist() == [12, 4, 8]
    assert found.t.tolist() == [801, 1, 401]
    assert found.step.tolist() == [0, 4, 2]
    assert found.conditions(torch.arange(3))["label"].tolist() == [12, 10, 11]
    assert len(found) == 3


def test_each_state_is_taken_in_every_branch():
    label = torch.tensor([10, 11, 12])
    cond = [{"label": label}, {"label": torch.full_like(label, 99)}]
    found = gather(chosen([0, 4, 5], torch.tensor([7, 8, 9])), TIMESTEPS, lambda i: STATES[i], cond)
    assert found.x.flatten().tolist() == [12, 12, 4, 4, 11, 11]
    assert found.t.tolist() == [7, 7, 8, 8, 9, 9]
    assert found.step.tolist() == [0, 0, 4, 4, 4, 4]
    assert found.branch.tolist() == [0, 1, 0, 1, 0, 1]
    assert found.conditions(torch.tensor([0, 1, 5, 4]))["label"].tolist() == [12, 99, 99, 11]


def test_a_sampler_may_mislabel_samples_and_take_finished_ones():
    found = gather(chosen([5, 1, 2], torch.tensor([4, 0, 1])), TIMESTEPS, lambda i: STATES[i])
    assert found.x.flatten().tolist() == [17, 1, 8]
    assert found.t.tolist() == [4, 0, 1]
    assert found.step.tolist() == [4, 1, 2]


STEPS = torch.randint(0, 20, (400,), generator=torch.Generator().manual_seed(0))


def held_out(step=STEPS, share=0.1, groups=5, seed=0):
    return split(step, 20, share, groups, stream(seed, "validation split"))


def test_validation_is_balanced_over_groups_and_disjoint_from_training():
    found = held_out()
    assert len(found.validation) == 40
    assert found.group.bincount().tolist() == [8] * 5
    assert torch.equal(STEPS[found.validation] // 4, found.group)
    assert sorted([*found.train.tolist(), *found.validation.tolist()]) == list(range(400))


def test_the_split_is_a_function_of_the_seed():
    assert torch.equal(held_out().validation, held_out().validation)
    assert not torch.equal(held_out().validation, held_out(seed=1).validation)


def test_without_a_share_everything_trains():
    found = held_out(share=0)
    assert found.train.tolist() == list(range(400))
    assert len(found.validation) == len(found.group) == 0


def test_a_group_without_enough_samples_is_refused_by_name():
    starving = STEPS.clone()
    starving[starving >= 16] = 0
    with pytest.raises(CellFailedError, match="step group 5 of 5 has 0 calibration samples"):
        held_out(starving)


def test_samples_of_one_state_are_held_out_together():
    found = split(STEPS.repeat_interleave(2), 20, 0.1, 5, stream(0, "validation split"), branches=2)
    alone = held_out()
    for pair, single in ((found.train, alone.train), (found.validation, alone.validation)):
        assert torch.equal(pair[::2], 2 * single)
        assert torch.equal(pair[1::2], 2 * single + 1)
    assert torch.equal(found.group, alone.group.repeat_interleave(2))


def test_a_small_share_holds_out_one_sample_of_each_group():
    assert len(held_out(share=0.001).validation) == 5


def test_methods_with_equal_samplers_share_one_set(ctx):
    methods = [cell_of(ctx, name).method for name in ("qdiffusion", "gacq", "ptq4dm")]
    mine, same, other = (calibration_set(ctx, Costs(), method, 0) for method in methods)
    key, same_key, other_key = (calibration_key(ctx, method, 0) for method in methods)
    assert key == same_key != other_key
    assert torch.equal(mine.x, same.x)
    assert len(mine) == len(other) == 40
    assert not torch.equal(mine.step, other.step)


def test_samples_are_states_of_the_trajectories(ctx):
    found = calibration_set(ctx, Costs(), cell_of(ctx, "qdiffusion").method, 0)
    states = torch.cat([trajectory_shard(ctx, Costs(), 0, ids) for ids in trajectory_shards(ctx)])
    assert torch.equal(found.x, states[found.trajectory, found.step])
    assert torch.equal(found.t, ctx.schedule.timesteps[found.step])


def test_another_seed_gives_other_trajectories_and_another_selection(ctx):
    method = cell_of(ctx, "ptq4dm").method
    first, second = calibration_set(ctx, Costs(), method, 0), calibration_set(ctx, Costs(), method, 1)
    assert not torch.equal(first.step, second.step)
    assert not torch.equal(first.x, second.x)


def test_the_budget_counts_training_and_validation(ctx):
    for name, held in (("qdiffusion", 0), ("gacq", 10)):
        quantizer = cell_quantizer(ctx, cell_of(ctx, name), Costs(), lambda *_: None)
        assert (len(quantizer.samples.split.train), len(quantizer.samples.split.validation)) == (40 - held, held)


def test_a_sampler_that_misses_the_budget_fails_the_cell(cache):
    made = context(cache, experiment("methods.qdiffusion.sampler={use='stride'}"))
    with pytest.raises(Exception, match="cannot take 20 of 5 steps"):
        calibration_set(made, Costs(), cell_of(made, "qdiffusion").method, 0)
