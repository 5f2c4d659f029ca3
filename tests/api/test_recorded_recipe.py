"""The recipe of a record is bound again where it was: by `export`, `time`, `sensitivity` and what a gate runs again."""

from pathlib import Path

from e2ekit import LATE, write_recipe
from enginekit import TOY

from ptqbench.api.recipe import load_recipe, recorded_recipe
from ptqbench.api.run import invocation
from ptqbench.results.record import RunRecord

NAMED = {
    "model": {"use": "diffusers", "path": "models/ddpm", "reference": "models/images"},
    "evaluation.features": {"use": "dinov2", "model": "dinov2"},
    "evaluation.metrics": [{"use": "lpips", "weights": "alex.pth"}, {"use": "clip-score", "model": "clip"}],
    "evaluation.reference": "real",
}


def test_files_that_a_record_names_are_those_beside_its_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path.resolve() / "recipes"
    recipe = write_recipe(Path("recipes"), "late.py", weighter="late-steps")
    (folder / "late.py").write_text(LATE)
    (folder / "models").mkdir()
    run = load_recipe(recipe, set=NAMED)
    record = RunRecord(run.name, "", "", "", run.digest, "", {}, {}, [], recipe=dict(run.raw), invocation=invocation(run))
    again = recorded_recipe(record, "sweep.seeds=[7]")
    assert again.model.options == run.model.options
    assert again.model.options.path == str(folder / "models" / "ddpm")
    assert [metric.options for metric in again.evaluation.metrics] == [metric.options for metric in run.evaluation.metrics]
    assert again.evaluation.metrics[0].options.weights == str(folder / "alex.pth")
    assert again.evaluation.features.options.model == str(folder / "dinov2")
    assert again.evaluation.reference.resolve() == folder / "real"
    assert again.plugin_files == (TOY.resolve(), folder / "late.py")
    assert {cell.seed for cell in again.cells if cell.method} == {7}


def test_files_that_a_linked_recipe_names_are_those_beside_the_link(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "shared"):
        (tmp_path / name).mkdir()
    (tmp_path / "mine" / "late.py").write_text(LATE)
    shared = write_recipe(Path("shared"), "late.py", weighter="late-steps")
    linked = Path("mine/linked.toml")
    linked.symlink_to(shared.resolve())
    run = load_recipe(linked, only=["nearest"])
    words = invocation(run)
    assert words == ["mine/linked.toml", "--set", 'sweep.only=["nearest"]']
    record = RunRecord(run.name, "", "", "", run.digest, "", {}, {}, [], recipe=dict(run.raw), invocation=words)
    again = recorded_recipe(record)
    assert again.plugin_files == run.plugin_files and again.digest == run.digest


def test_an_invocation_repeats_the_run_with_the_cells_that_it_had(tmp_path):
    run = load_recipe(write_recipe(tmp_path), set={"sweep.seeds": [1]}, only=["nearest/W4A8"])
    words = invocation(run)[2::2]
    again = load_recipe(write_recipe(tmp_path), set=words)
    assert [cell.id for cell in again.cells] == [cell.id for cell in run.cells] == ["full-precision", "nearest/W4A8/seed1"]
    # What is asked for anew goes over it: a gate's command names one cell alone.
    assert len(load_recipe(write_recipe(tmp_path), set=words, only=["full-precision"]).cells) == 1
