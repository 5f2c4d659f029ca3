"""The weighters `focal`, `curriculum` and `step-weights`: formulas by hand, and whole cells."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from enginekit import cell_of, context, experiment, quantized, recipe, run_cell
from torch import Tensor

from ptqbench.errors import CellFailedError
from ptqbench.fitting.fit import UnitFit
from ptqbench.roles.weighter import Batch
from ptqbench_fixed import CurriculumOptions, FocalOptions, StepWeightsOptions
from ptqbench_fixed.curriculum import Curriculum
from ptqbench_fixed.focal import Focal
from ptqbench_fixed.weighter import StepWeights


@dataclass
class Steps:
    """As much of an inner problem as these weighters look at: ten steps, three samples at each."""

    timesteps: Tensor = field(default_factory=lambda: torch.arange(10).flip(0))
    train_steps: Tensor = field(default_factory=lambda: torch.arange(30) % 10)
    iterations: int = 10


def batch(index: list[int]) -> Batch:
    where = torch.tensor(index)
    return Batch(where, Steps().train_steps[where], (), {}, (torch.zeros(len(index), 2),), seed=0)


def test_focal_weights_by_hand() -> None:
    """Two bins: the sums of losses of each mini-batch, averaged from zero; weights follow from the shares."""
    made = Focal(FocalOptions(power=3.0, momentum=0.75, bins=2))
    made.begin_unit("u", "rounding", Steps(), torch.Generator())
    first = batch([0, 4, 9])
    assert torch.equal(made.weights(first, Steps()), torch.ones(3))
    made.saw(first, torch.tensor([1.0, 2.0, 5.0]))
    # Errors 0.25 * (1 + 2) and 0.25 * 5.
    torch.testing.assert_close(made.weights(first, Steps()), torch.tensor([1.0, 1.0, 3 / 5]) ** 3)
    made.saw(batch([1]), torch.tensor([4.0]))
    noisy, clean = 0.75 * 0.75 + 0.25 * 4.0, 0.75 * 1.25
    share = torch.tensor([noisy, clean]) / (noisy + clean)
    torch.testing.assert_close(made.weights(batch([0, 9]), Steps()), ((1 - share) / (1 - share).max()) ** 3)
    report = made.report()
    assert float(report["weights"].mean()) == pytest.approx(1)
    torch.testing.assert_close(report["errors"], torch.tensor([noisy, clean], dtype=torch.float64))


def test_equal_shares_of_twenty_bins_count_alike() -> None:
    made = Focal(FocalOptions())
    made.begin_unit("u", "rounding", Steps(torch.arange(20), torch.arange(20)), torch.Generator())
    made.saw(Batch(torch.arange(20), torch.arange(20), (), {}, (torch.zeros(20, 1),), 0), torch.full((20,), 0.7))
    found = made.weights(Batch(torch.arange(20), torch.arange(20), (), {}, (torch.zeros(20, 1),), 0), Steps())
    torch.testing.assert_close(found, torch.ones(20))


def test_samples_of_one_bin_that_has_all_the_error_still_count() -> None:
    made = Focal(FocalOptions(power=40.0, bins=2))
    made.begin_unit("u", "rounding", Steps(), torch.Generator())
    made.saw(batch([0, 1]), torch.tensor([3.0, 3.0]))
    torch.testing.assert_close(made.weights(batch([0, 1]), Steps()), torch.ones(2))
    assert made.weights(batch([0, 9]), Steps()).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("start", ["noisy", "clean"])
def test_the_curriculum_grows_from_one_end_to_all_steps(start: str) -> None:
    made = Curriculum(CurriculumOptions(stages=5, start=start))
    problem = Steps()
    made.begin_unit("u", "rounding", problem, torch.Generator())
    seen = [sorted(problem.train_steps[made.pool(problem)].unique().tolist()) for _ in range(problem.iterations)]
    sizes = [2, 2, 4, 4, 6, 6, 8, 8, 10, 10]
    assert seen == [list(range(n)) if start == "noisy" else list(range(10 - n, 10)) for n in sizes]


def test_a_curriculum_whose_first_stage_is_empty_fails() -> None:
    made = Curriculum(CurriculumOptions(stages=5))
    with pytest.raises(CellFailedError, match="first of 5 groups"):
        made.begin_unit("u", "rounding", Steps(train_steps=torch.tensor([4, 9])), torch.Generator())


def test_given_weights_are_those_of_the_groups() -> None:
    made = StepWeights(StepWeightsOptions(weights=(1.0, 3.0)))
    made.begin_unit("u", "rounding", Steps(), torch.Generator())
    torch.testing.assert_close(made.weights(batch([0, 4, 5, 19]), Steps()), torch.tensor([0.5, 0.5, 1.5, 1.5]))


def test_cells_succeed_and_mini_batches_come_from_the_pool(tmp_path, monkeypatch) -> None:
    raw = recipe()
    raw["methods"] = {"uniform": raw["methods"]["qdiffusion"]}
    weighters = {
        "focal": "focal",
        "curriculum": {"use": "curriculum", "stages": 2},
        "given": {"use": "step-weights", "weights": [1.0, 9.0]},
    }
    raw["methods"] |= {name: {"extends": "uniform", "weighter": table} for name, table in weighters.items()}
    raw["recipe"]["baseline"] = "uniform"
    ctx = context(tmp_path, experiment("model.network=plain", raw=raw))
    steps: list[int] = []
    original = UnitFit.mini_batch

    def noted(self: UnitFit) -> Batch:
        found = original(self)
        steps.append(int(found.step.max()))
        return found

    plain = quantized(ctx, cell_of(ctx, "uniform"))[0].export()
    for name in weighters:
        record = run_cell(ctx, cell_of(ctx, name))
        assert (record.status, record.reason) == ("ok", "")
        found = quantized(ctx, cell_of(ctx, name))[0].export()
        assert any(not torch.equal(found[key], plain[key]) for key in found)
    monkeypatch.setattr(UnitFit, "mini_batch", noted)
    other = context(tmp_path / "other", experiment("model.network=plain", raw=raw))
    quantized(other, cell_of(other, "curriculum"))
    # Five steps: the first half of the first unit's iterations sees steps 0 to 2.
    assert max(steps[:3]) == 2
    assert max(steps[3:6]) > 2
