"""What `bench fit` times: rounds in turn, a fit that learns, plain loops that do what they are named after."""

from __future__ import annotations

import pytest
import torch

from ptqbench.benchmarks import fit
from ptqbench.benchmarks.clock import interleaved
from ptqbench.benchmarks.subject import Bench

CPU = torch.device("cpu")


def test_runs_take_turns_and_the_first_round_does_not_count() -> None:
    seen: list[str] = []
    found = interleaved({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, 3, CPU)
    assert "".join(seen) == "abababab"
    assert found["a"].ratio == 1


@pytest.fixture(scope="module")
def bench() -> Bench:
    made = Bench(CPU, width=8, blocks=1, samples=32)
    made.q.find_weight_grids()
    return made


def test_each_kind_of_unit_is_one_of_the_networks(bench: Bench) -> None:
    names = {unit.name for unit in bench.units}
    assert set(fit.KINDS.values()) <= names
    assert len(names) == len(bench.units) == 6


def test_the_timed_fit_lowers_its_loss_with_the_regulariser_at_work(bench: Bench) -> None:
    problem = bench.problem("blocks.0")
    made = bench.fit(problem, 8, 40)
    assert made.penalty(0.0) is not None
    before = problem.mean_loss()
    assert [round(40 * progress) for progress in made.run()] == list(range(1, 41))
    assert problem.mean_loss() < before


def test_figures_name_what_they_are_beside(bench: Bench) -> None:
    fresh = Bench(CPU, width=8, blocks=1, samples=32)
    found = [*fit._iteration("iteration", "x", bench, bench.problem("attention"), 8, 2), *fit._once("x", fresh)]
    assert [x.beside for x in found[:2]] == ["weights alone", "written out in torch"]
    assert [x.part for x in found[2:]] == ["ranges", "capture"]
    assert all(x.seconds > 0 and x.ratio > 0 for x in found)
