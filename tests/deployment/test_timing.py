"""Executed times: by turns, as ratios with intervals, apart from what is simulated, and in the run's record."""

from __future__ import annotations

import importlib
import json

import pytest
import torch
from click.testing import CliRunner
from e2ekit import write_recipe

import ptqbench
from ptqbench.cli import cli
from ptqbench.deployment.agreement import Agreement
from ptqbench.deployment.timing import _by_turns, _figures
from ptqbench.errors import EXIT_USAGE
from ptqbench.results.executed import executed_tables
from ptqbench.results.record import Executed, RunRecord


def test_the_ratio_is_of_medians_with_an_interval_that_holds_it():
    rng = torch.Generator().manual_seed(0)
    full = (2 + torch.rand(40, generator=rng) / 10).tolist()
    ours = (1 + torch.rand(40, generator=rng) / 10).tolist()
    (whole, *_), (quick, *_), (ratio, low, high) = _figures(full, ours)
    assert ratio == pytest.approx(whole / quick) and low < ratio < high
    assert low > 1.8 and high < 2.1


def test_steps_are_taken_by_turns_over_the_whole_schedule():
    seen: list[tuple[str, int]] = []
    steps = [lambda s, name=name: seen.append((name, s)) for name in "ab"]
    first, second = _by_turns(steps, 20, 4, lambda *_: None)
    assert len(first) == len(second) == 4
    assert seen[8:] == [("b", 0), ("a", 0), ("a", 5), ("b", 5), ("b", 10), ("a", 10), ("a", 15), ("b", 15)]


def test_agreement_is_the_power_of_what_was_wanted_over_that_of_the_difference():
    wanted = torch.tensor([[1.0, -1.0]])
    found = Agreement.of(wanted + torch.tensor([[0.1, 0.0]]), wanted)
    assert (found.largest, found.mean) == (pytest.approx(0.1), pytest.approx(0.05))
    assert found.snr == pytest.approx(10 * torch.tensor(2 / 0.01).log10().item(), rel=1e-5)
    assert Agreement.of(wanted, wanted).snr == float("inf")


def test_every_step_that_is_timed_was_taken_before_by_both():
    seen: list[tuple[str, int]] = []
    _by_turns([lambda s, name=name: seen.append((name, s)) for name in "ab"], 3, 6, lambda *_: None)
    assert sorted(seen[:6]) == [(name, s) for name in "ab" for s in range(3)]
    assert len(seen) == 6 + 12


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_no_number_agrees_with_nothing(wrong):
    wanted = torch.ones(2, 3)
    assert Agreement.of(wanted * wrong, wanted).snr == Agreement.of(wanted, wanted * wrong).snr == -float("inf")
    assert Agreement.of(wanted, 0 * wanted).snr == Agreement.of(0 * wanted, 0 * wanted).snr == -float("inf")


def test_several_graphs_agree_as_well_as_the_worst() -> None:
    wanted = [torch.ones(4, 3), torch.ones(2, 3)]
    found = Agreement.of_graphs([wanted[0], 1.1 * wanted[1]], wanted)
    assert found.snr == pytest.approx(20.0, abs=1e-4) and (found.rows, found.graphs) == (6, 2)
    assert "in the worst of 2 graphs" in str(found)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("timing")
    ptqbench.run(write_recipe(folder), out=folder / "run", cache=folder / "cache", device="cpu", only=["nearest/W4A8"])
    return folder


def timed(place, *words: str):
    given = ["time", place / "run", "--cell", "nearest/W4A8/seed0", "--cache", place / "cache"]
    return CliRunner().invoke(cli, [*map(str, given), "--repeats", "5", "--batch", "2", "--threads", "1", *words])


def sensitive(place):
    given = ["sensitivity", place / "run", "--cell", "nearest/W4A8/seed0", "--cache", place / "cache"]
    return CliRunner().invoke(cli, [*map(str, given), "--trajectories", "2", "--json"])


def test_times_become_part_of_the_record_and_stand_in_a_table_of_their_own(place):
    before = json.loads((place / "run" / "results.json").read_text())
    done = timed(place, "--engine", "torch", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["integer_share"] == 0 and found["snr"] > 40 and found["batch"] == 2
    after = json.loads((place / "run" / "results.json").read_text())
    cell = next(c for c in after["cells"] if c["id"] == "nearest/W4A8/seed0")
    assert cell["executed"] == {"torch": found}
    for c in (*after["cells"], *before["cells"]):
        c.pop("executed", None)
    assert after == before
    shown = CliRunner().invoke(cli, ["show", str(place / "run")]).stdout
    assert "executed, not simulated" in shown
    (table,) = executed_tables(RunRecord.load(place / "run"))
    assert all(c.key.endswith("_executed") for c in table.columns[3:])


def _record(place, **changes: object) -> RunRecord:
    record = RunRecord.load(place / "run")
    figures = {"full_precision_seconds": [1.0, 0.9, 1.1], "quantized_seconds": [2.0, 1.9, 2.1], "ratio": [0.5, 0.45, 0.55]}
    more = {"integer_share": 0.1, "snr": 60.0, "peak_mib": [1.0, 1.0], "file_bytes": [0, 0], **figures, **changes}
    record.cells[-1].executed = {"mine": Executed("mine 1", "", 16, 1, 30, **more)}  # type: ignore[arg-type]
    return record


def test_a_slow_down_is_printed_as_one_and_so_is_another_function(place):
    name = "nearest/W4A8/seed0 in mine"
    (table,) = executed_tables(_record(place))
    assert f"Slower than full precision: {name}." in table.notes
    assert table.rows[0][5].tone == "bad"
    (table,) = executed_tables(_record(place, ratio=[2.0, 1.9, 2.1], snr=12.0))
    assert table.rows[0][5].tone == "" and not any("Slower" in note for note in table.notes)
    assert any("something else than the simulation" in note and name in note for note in table.notes)
    assert executed_tables(_record(place, ratio=[2.0, 1.9, 2.1]))[0].rows[0][5].tone == "good"
    (table,) = executed_tables(_record(place, snr=float("nan")))
    assert any("something else than the simulation" in note and name in note for note in table.notes)


def test_an_engine_that_is_none_is_named(place):
    done = timed(place, "--engine", "onnxruntim")
    assert done.exit_code == EXIT_USAGE and 'did you mean "onnxruntime"' in done.output


def test_what_is_cached_is_made_with_the_runs_threads_and_times_with_those_asked_for(place, monkeypatch):
    api_time, seen = importlib.import_module("ptqbench.api.time"), {}
    for name in ("deployable", "time_cell"):
        real = getattr(api_time, name)
        spy = lambda *args, name=name, real=real, **kw: seen.update({name: torch.get_num_threads()}) or real(*args, **kw)  # noqa: E731
        monkeypatch.setattr(api_time, name, spy)
    done = timed(place, "--engine", "torch", "--threads", "2")
    assert done.exit_code == 0, done.output
    assert seen == {"deployable": 1, "time_cell": 2}


@pytest.fixture
def elsewhere(place):
    """Puts the run's record as if of another machine, for one test."""
    path = place / "run" / "results.json"
    kept = path.read_text()

    def change(device: str, state_hash: str | None) -> None:
        data = json.loads(kept)
        data["environment"]["device"] = device
        if state_hash:
            data["cells"][-1]["state_hash"] = state_hash
        path.write_text(json.dumps(data))

    yield change
    path.write_text(kept)


def test_a_cell_of_an_accelerator_is_timed_only_where_the_cpu_makes_the_same_of_it(place, elsewhere):
    elsewhere("cuda", "another")
    refused = timed(place, "--engine", "torch")
    assert refused.exit_code == EXIT_USAGE and "was quantized on cuda" in refused.output and "--device cpu" in refused.output
    elsewhere("cuda", None)
    assert timed(place, "--engine", "torch").exit_code == 0


def test_that_a_cell_was_computed_again_is_said_on_stderr(place, elsewhere):
    elsewhere("cpu", "another")
    for done in (timed(place, "--engine", "torch", "--json"), sensitive(place)):
        assert done.exit_code == 0, done.output
        assert "not the run's bit for bit" in done.stderr and json.loads(done.stdout)
    elsewhere("cpu", None)
    assert "bit for bit" not in timed(place, "--engine", "torch").stderr
