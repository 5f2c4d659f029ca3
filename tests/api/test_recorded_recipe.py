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
