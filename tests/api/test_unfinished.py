"""A run that was ended by what all cells share: its record, and what the gate makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from enginekit import TOY, experiment, recipe

from ptqbench.api.check import check
from ptqbench.api.run import run
from ptqbench.cli import cli
from ptqbench.errors import EXIT_CELL_FAILED, EXIT_PLUGIN, EXIT_USAGE, UserError
from ptqbench.recipe.experiment import Experiment
from ptqbench.results import console
from ptqbench.results.overview import overview
from ptqbench.results.record import RunRecord

PLUGIN = """
import torch
from ptqbench import Component, hookimpl
from ptqbench.roles.features import FeatureExtractor
from ptqbench.testing.networks import SHAPE

class Failing(FeatureExtractor):
    def fingerprint(self):
        return "failing"

    def outputs(self):
        return {"pool": 4}

    def prepare(self, device):
        pass

    def extract(self, images):
        return {"pool": torch.zeros(len(images), 3) @ torch.zeros(4, 4)}

@hookimpl
def ptqbench_components():
    return [Component("features", "failing", "an error in torch", Failing)]
"""


@pytest.fixture
def made(tmp_path: Path) -> Experiment:
    """Round to nearest, whose features of full-precision images fail."""
    (tmp_path / "failing.py").write_text(PLUGIN)
    raw = recipe()
    raw["recipe"]["plugins"] = [str(TOY), str(tmp_path / "failing.py")]
    raw["evaluation"]["features"] = "failing"
    return experiment("model.network=plain", methods=("nearest",), raw=raw)


def ended(made: Experiment, folder: Path, code: int) -> RunRecord:
    """The record of a run that ends with an exit code, which the gate reads and holds against every cell."""
    with pytest.raises(UserError) as caught:
        run(made, out=folder / "out", cache=folder / "cache")
    assert caught.value.exit_code == code
    record = RunRecord.load(folder / "out")
    assert [cell.id for cell in record.cells] == [cell.id for cell in made.cells]
    report = check(folder / "out", folder / "none.toml")
    assert report.exit_code == EXIT_CELL_FAILED
    assert caught.value.message.splitlines()[0] in str(report)
    (note,) = [note for note in overview(record).notes if note.startswith("failed: ")]
    assert caught.value.message.splitlines()[0] in note
    assert console.render([overview(record)], 80)
    return record


def test_features_that_fail_are_the_plugins_and_the_record_says_so(tmp_path: Path, made: Experiment) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/results.json").write_text("of an earlier run, which would pass for this one")
    record = ended(made, tmp_path, EXIT_PLUGIN)
    assert {cell.status for cell in record.cells} == {"failed"}
    assert all('"failing.py" failed in extract()' in cell.reason for cell in record.cells)
    assert record.protocol["steps"] == 5


def test_trajectories_that_are_not_finite_are_nobodys_but_the_cells(tmp_path: Path, monkeypatch) -> None:
    made = experiment("model.network=plain", 'evaluation.metrics=["psnr"]', methods=("nearest",))
    monkeypatch.setattr("ptqbench.sampling.images.sample", lambda *_, **__: torch.full((4, 1, 8, 8), torch.nan))
    ended(made, tmp_path, EXIT_CELL_FAILED)


def test_a_model_that_cannot_be_had_is_the_recipes_and_its_record_says_what_is_known(tmp_path: Path, monkeypatch) -> None:
    made = experiment("model.network=plain", 'evaluation.metrics=["psnr"]', methods=("nearest",))

    def missing(self: object) -> str:
        raise UserError("the model's folder is not there", "check model.path")

    monkeypatch.setattr("ptqbench.stage.context.RunContext.source_fingerprint", property(missing))
    assert ended(made, tmp_path, EXIT_USAGE).protocol["images"] == made.sampling.images


def test_cells_that_were_finished_before_keep_their_numbers(tmp_path: Path, monkeypatch) -> None:
    first = experiment("model.network=plain", 'evaluation.metrics=["psnr"]', methods=("nearest",))
    run(first, cache=tmp_path / "cache")
    both = experiment("model.network=plain", 'evaluation.metrics=["psnr"]', 'sweep.bits=["W4A8", "W8A8"]', methods=("nearest",))

    def full(*_: object) -> None:
        raise UserError("the disk is full", "make room")

    monkeypatch.setattr("ptqbench.running.tasks.probe_states", full)
    record = ended(both, tmp_path, EXIT_USAGE)
    assert {cell.bits: cell.status for cell in record.cells} == {"W32A32": "ok", "W4A8": "ok", "W8A8": "failed"}


def test_the_command_says_where_the_record_is(tmp_path: Path, made: Experiment, monkeypatch) -> None:
    monkeypatch.setattr("ptqbench.commands.run.load_recipe", lambda *_, **__: made)
    out = tmp_path / "out"
    done = CliRunner().invoke(cli, ["run", "any.toml", "--out", str(out), "--cache", str(tmp_path / "cache")])
    assert f"written to {out}: results.json, which says why the run ended" in done.stderr
