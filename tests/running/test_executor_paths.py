"""Files that a recipe names are the same in every process, whatever folder that works in."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from e2ekit import LATE, write_recipe
from enginekit import TOY

from ptqbench.errors import PluginError, UserError
from ptqbench.recipe.load import load_experiment
from ptqbench.roles.executor import Task
from ptqbench.running.executor import crew_of
from ptqbench.stage.context import RunContext, Settings
from ptqbench.stage.stages import Tell

NAMED = (
    'evaluation.features={use="dinov2", model="networks/dinov2"}',
    'evaluation.metrics=["psnr", {use="lpips", weights="networks/alex.pth"}]',
    "evaluation.reference=real",
)


def of_context(ctx: RunContext, _: Task, __: Tell) -> dict[str, Any]:
    """A task that gives the experiment of the process that does it."""
    return {"experiment": ctx.experiment}


@pytest.mark.parametrize("data", [False, True], ids=["file", "data"])
def test_paths_mean_the_same_in_a_worker(tmp_path, monkeypatch, data):
    for name in ("here", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "here" / "late.py").write_text(LATE)
    monkeypatch.chdir(tmp_path)
    here = load_experiment(write_recipe(Path("here"), "late.py", weighter="late-steps"), overrides=NAMED)
    if data:
        monkeypatch.chdir(tmp_path / "here")
        here = load_experiment(here.raw)
    settings = Settings(tmp_path / "cache", "cpu", 2, 1)
    crew = crew_of(RunContext.of(here, settings), settings, lambda *_: None, of_context)
    sent = pickle.dumps(crew.prepare)
    monkeypatch.chdir(tmp_path / "elsewhere")
    there = pickle.loads(sent)()(Task("cell", 0), lambda *_: None)["experiment"]
    folder = (tmp_path / "here").resolve()
    assert there.evaluation.features.options.model == str(folder / "networks" / "dinov2")
    assert there.evaluation.metrics[1].options.weights == str(folder / "networks" / "alex.pth")
    assert there.evaluation.reference.resolve() == folder / "real"
    assert there.plugin_files == (TOY.resolve(), folder / "late.py")
    assert there.digest == here.digest
    assert [bound.key for bound in there.components()] == [bound.key for bound in here.components()]


def test_a_worker_with_other_code_or_on_another_machine_is_refused(tmp_path, monkeypatch):
    """Its results would stand in one table with the others'."""
    (tmp_path / "late.py").write_text(LATE)
    here = load_experiment(write_recipe(tmp_path, "late.py", weighter="late-steps"))
    settings = Settings(tmp_path / "cache", "cpu", 2, 1)
    prepare = crew_of(RunContext.of(here, settings), settings, lambda *_: None, of_context).prepare
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("ptqbench.stage.context.processor", lambda: "another one")
        with pytest.raises(UserError, match=r"computes otherwise.*another one"):
            prepare()
    prepare()
    (tmp_path / "late.py").write_text(LATE.replace("1.0 +", "2.0 +"))
    with pytest.raises(PluginError, match="has changed since the run began"):
        prepare()
