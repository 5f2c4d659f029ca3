"""Evaluations are counted where they happen and remembered with each stage, whatever the cache had already."""

from __future__ import annotations

import pytest
import torch
from enginekit import cell_of, context, experiment, run_cell

from ptqbench.recipe.experiment import Cell
from ptqbench.results.costs import EVALUATION_STAGES
from ptqbench.results.record import Budget
from ptqbench.running.cell import CellRun
from ptqbench.stage.cache import Cache, Costs, cached_tensors, with_checksum
from ptqbench.stage.context import RunContext
from ptqbench.stage.counting import Evaluations, Tally, count_denoiser, count_unit, counting

ONE = {"a": torch.ones(1)}


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def test_samples_count_for_the_innermost_result():
    outer: Tally = {}
    count_denoiser(99)
    with counting("outer/1", outer):
        count_denoiser(3)
        inner: Tally = {}
        with counting("inner/1", inner):
            count_denoiser(10)
            count_unit(4)
        count_denoiser(2)
    assert inner == {"inner/1": Evaluations(10, 4)}
    assert outer == {"outer/1": Evaluations(5), "inner/1": Evaluations(10, 4)}


def shared(cache: Cache, costs: Costs) -> None:
    """A stage that several others need."""

    def make(_):
        count_denoiser(100)
        return ONE

    cached_tensors(cache, costs, "shared", "k", make)


def using(cache: Cache, costs: Costs, stage: str, own: int) -> None:
    """A stage that needs the shared one, whose cost nobody looks at there."""

    def make(_):
        count_denoiser(own)
        shared(cache, Costs())
        return ONE

    cached_tensors(cache, costs, stage, "k", make)


def test_what_stages_share_counts_once_in_everything_that_rests_on_it(cache):
    first, second, third = Costs(), Costs(), Costs()
    for _ in range(2):
        using(cache, first, "a", 1)
        using(cache, first, "b", 2)
    using(cache, second, "b", 2)
    shared(cache, third)
    numbers = lambda costs: {stage: n.denoiser for stage, n in costs.evaluations().items()}  # noqa: E731
    assert numbers(first) == {"a": 1, "shared": 100, "b": 2}
    assert numbers(second) == {"b": 2, "shared": 100}
    assert numbers(third) == {"shared": 100}
    assert second.stages.keys() == {"b"}


def test_parts_of_a_stage_are_added_up(cache):
    costs = Costs()
    for key in "xy":
        cached_tensors(cache, costs, "images", key, lambda _: count_denoiser(8) or ONE)
    assert costs.evaluations() == {"images": Evaluations(16)}


def test_a_killed_process_loses_no_more_than_its_unfinished_part(cache):
    """`BaseException` in place of a kill would run the cleanup; the note must be there when the part is."""
    seen = []

    def make(entry):
        for part in range(3):
            if not entry.has(f"{part}.json"):
                count_denoiser(10)
                entry.save_json(f"{part}.json", part)
                seen.append(cache.entry("stage", "k").load_json("cost.json")["evaluations"]["stage/k"]["denoiser"])
                if part == 1 and len(seen) == 2:
                    # What a killed process would have noted: nothing of this.
                    count_denoiser(1000)
                    raise KeyboardInterrupt
        return ONE

    with pytest.raises(KeyboardInterrupt):
        cached_tensors(cache, Costs(), "stage", "k", make)
    entry = cache.entry("stage", "k")
    noted = entry.load_json("cost.json")
    noted["evaluations"]["stage/k"]["denoiser"] = seen[-1]
    del noted["checksum"]
    entry.save_json("cost.json", with_checksum(noted))
    costs = Costs()
    cached_tensors(cache, costs, "stage", "k", make)
    assert seen == [10, 20, 30]
    assert costs.evaluations() == {"stage": Evaluations(30)}


def count_rows(ctx: RunContext) -> list[int]:
    """Every row that the model's own function sees from now on, the layers' probing left out."""
    rows, predict = [], ctx.model.call
    assert ctx.probe.layers

    def counted(net, x, t, cond):
        rows.append(len(x))
        return predict(net, x, t, cond)

    ctx.model.call = counted
    return rows


def budget_of(ctx: RunContext, cell: Cell) -> Budget:
    """What calibrating the cell takes."""
    return CellRun(ctx, cell, lambda *_: None).calibrated().budget


SHORT = ("methods.qdiffusion.reconstruction.iterations=3", "methods.qdiffusion.reconstruction.step_iterations=1")


@pytest.mark.parametrize("name", ["nearest", "qdiffusion", "gacq"])
def test_a_budget_is_the_number_of_rows_that_the_model_saw(tmp_path, name):
    ctx = context(tmp_path, experiment(*SHORT))
    rows = count_rows(ctx)
    budget = budget_of(ctx, cell_of(ctx, name))
    assert budget.denoiser_evaluations == sum(rows) == sum(budget.by_stage.values())
    assert budget.by_stage["trajectories"] == 8 * 5
    assert budget.by_stage["activation-ranges"] == budget.training
    if name == "nearest":
        assert budget == Budget(training=40, denoiser_evaluations=80, by_stage={"trajectories": 40, "activation-ranges": 40})
    else:
        # All samples for each unit, full precision and quantized, and one more that tells the size of recordings.
        assert (budget.by_stage["reconstruct-rounding"] - 1) % 40 == 0
    before = len(rows)
    again = budget_of(context(tmp_path, ctx.experiment), cell_of(ctx, name))
    assert again == budget
    assert len(rows) == before


def test_a_budget_does_not_depend_on_which_cell_came_first(tmp_path):
    """W4A32 and W4A8 share the rounding phase and the trajectories; each has to answer for all of it."""
    made = experiment('sweep.bits=["W4A32", "W4A8"]', *SHORT, methods=("qdiffusion",))
    found = []
    for order in (("W4A32", "W4A8"), ("W4A8", "W4A32")):
        ctx = context(tmp_path / order[0], made)
        found.append({bits: budget_of(ctx, cell_of(ctx, "qdiffusion", bits)) for bits in order})
    assert found[0] == found[1]
    narrow, wide = (found[0][bits].by_stage for bits in ("W4A32", "W4A8"))
    assert wide.keys() - narrow.keys() == {"activation-ranges", "reconstruct-steps"}
    assert {stage: wide[stage] for stage in narrow} == narrow


def test_measuring_is_no_calibration(tmp_path):
    ctx = context(tmp_path, experiment())
    cell = cell_of(ctx, "nearest")
    run = CellRun(ctx, cell, lambda *_: None)
    record = run.run()
    spent = run.costs.evaluations()
    assert spent["images"] == Evaluations(8 * 5)
    assert spent["noise-error"] == Evaluations(4 * 5)
    assert not record.budget.by_stage.keys() & EVALUATION_STAGES
    assert run_cell(ctx, ctx.experiment.cells[0]).budget == Budget()
