"""What becomes of errors: those of plugins cost their cell, a cache that cannot keep results ends the run."""

from __future__ import annotations

import resource
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from enginekit import TOY, cell_of, context, experiment, recipe, run_cell

from ptqbench.api.progress import Progress
from ptqbench.errors import EXIT_USAGE, PluginError
from ptqbench.failures import blamed
from ptqbench.running import tasks
from ptqbench.running.cell import CellRun
from ptqbench.running.run import run_experiment, tracebacks
from ptqbench.stage.cache import Cache, CacheWriteError
from ptqbench.stage.context import Settings

PLUGIN = """
import sys
import torch
from ptqbench import Component, hookimpl
from ptqbench.roles.metric import Metric
from ptqbench.roles.weighter import SampleWeighter

class Leaving(Metric):
    def names(self, extractor):
        return ["leaving"]

    def compute(self, evidence):
        if evidence.is_full_precision:
            return {}
        sys.exit()

class LeavingAtOnce(Leaving):
    def names(self, extractor):
        raise SystemExit(0)

class Stumbling(SampleWeighter):
    def weights(self, batch, problem):
        import torch
        return torch.ones(2) + torch.ones(3)

@hookimpl
def ptqbench_components():
    return [
        Component("metric", "leaving", "calls sys.exit", Leaving),
        Component("metric", "at-once", "earlier", LeavingAtOnce),
        Component("weighter", "stumbling", "an error inside torch", Stumbling),
    ]
"""


@pytest.fixture
def made(tmp_path):
    """Makes the toy experiment with plugins that fail."""
    path = tmp_path / "failing.py"
    path.write_text(PLUGIN)
    raw = recipe()
    raw["recipe"]["plugins"] = [str(TOY), str(path)]
    return lambda *overrides: experiment("model.network=plain", *overrides, methods=("qdiffusion",), raw=raw)


def settings(folder: Path) -> Settings:
    return Settings(folder / "cache", "cpu", 1, 1)


def test_a_metric_that_calls_sys_exit_fails_its_cell_and_the_others_go_on(tmp_path, made, capsys):
    wanted = made("evaluation.metrics=['psnr', 'leaving']", "methods.qdiffusion={}")
    with Progress() as progress:
        record = run_experiment(wanted, settings(tmp_path), progress.report, progress.announce)
    full, cell = record.cells
    assert (full.status, cell.status) == ("ok", "failed")
    assert 'failed in compute() of the metric "leaving": SystemExit: a plugin called sys.exit(None) at' in cell.reason
    assert "failing.py:15" in cell.reason
    said = capsys.readouterr().err
    assert "qdiffusion/W4A8/seed0: failed in " in said
    assert "full-precision: done in " in said


def test_sys_exit_outside_of_cells_is_an_error_of_the_plugin(tmp_path, made):
    with pytest.raises(PluginError, match=r"called sys.exit\(0\) at .*failing.py:19"):
        run_experiment(made("evaluation.metrics=['at-once']"), settings(tmp_path), lambda *_: None, lambda _: None)


def test_what_ends_a_task_is_an_error_and_what_does_not_is_let_through(monkeypatch):
    def leave(*_):
        raise SystemExit(3)

    monkeypatch.setattr(tasks, "probe_states", leave)
    with pytest.raises(PluginError, match=r"sys.exit\(3\)"):
        tasks.perform(None, tasks.Task("probe"), lambda *_: None)
    with pytest.raises(KeyboardInterrupt), blamed():
        raise KeyboardInterrupt


def test_a_bug_is_told_with_the_plugins_own_line(tmp_path, made):
    wanted = made("methods.qdiffusion.weighter=stumbling")
    ctx = context(tmp_path / "cache", wanted)
    record = run_cell(ctx, cell_of(ctx, "qdiffusion"))
    assert record.status == "failed"
    first = record.reason.splitlines()[0]
    assert first.startswith(
        'plugin "failing.py" failed in weights() of the weighter "stumbling": RuntimeError: The size of ten'
    )
    assert first.endswith("failing.py:24 (unit first, phase rounding)")


def test_the_whole_traceback_of_a_cell_that_failed_is_kept(tmp_path, made):
    broken = made("methods.qdiffusion.weighter=stumbling", "evaluation.metrics=['psnr']")
    run_experiment(broken, settings(tmp_path), lambda *_: None, lambda _: None)
    found = tracebacks(broken, settings(tmp_path))
    assert list(found) == ["qdiffusion/W4A8/seed0"]
    (text,) = found.values()
    assert text.startswith("Traceback (most recent call last):\n")
    assert "in weights\n    return torch.ones(2) + torch.ones(3)" in text
    assert "\nRuntimeError: The size of tensor" in text


def test_an_attempt_that_failed_leaves_nothing_after_one_that_did_not(tmp_path, made, monkeypatch):
    wanted = made("methods.qdiffusion={}")
    ctx = context(tmp_path / "cache", wanted)
    cell = cell_of(ctx, "qdiffusion")
    with monkeypatch.context() as patched:
        patched.setattr(CellRun, "calibrated", lambda _: 1 / 0)
        assert run_cell(ctx, cell).status == "failed"
    assert list(tracebacks(wanted, settings(tmp_path))) == [cell.id]
    assert run_cell(ctx, cell).status == "ok"
    assert tracebacks(wanted, settings(tmp_path)) == {}


@contextmanager
def full_disk():
    """Files can have no more than 2000 bytes: the system's answer to a longer one is an OSError, as on a full disk.

    For as few lines as possible, and never as a fixture: the limit holds for the whole process, and pytest's own output may go
    to a file that is longer than this.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_results_that_cannot_be_kept_name_the_folder_and_the_option(tmp_path):
    entry = Cache(tmp_path).entry("stage", "key")
    entry.save_json("small.json", [1])
    for save in (
        lambda: entry.save_tensors("t.safetensors", {"a": torch.zeros(5000)}),
        lambda: entry.save_json("d.json", [0] * 5000),
    ):
        with pytest.raises(CacheWriteError, match=": File too large") as caught, full_disk():
            save()
        assert str(entry.path) in caught.value.message
        assert "--cache" in caught.value.hint
        assert caught.value.exit_code == EXIT_USAGE
    assert [p.name for p in entry.path.iterdir() if not p.name.startswith(".sums-")] == ["small.json"]


def test_a_folder_that_cannot_be_made_is_the_caches_error(tmp_path):
    (tmp_path / "stage").write_text("a file")
    with pytest.raises(CacheWriteError, match="stage"), Cache(tmp_path).locked("stage", "key"):
        pass


def test_a_full_disk_ends_the_run_and_not_one_cell_after_the_other(tmp_path, made):
    wanted = made()
    first = context(tmp_path / "cache", wanted)
    assert run_cell(first, wanted.cells[0]).status == "ok"
    with pytest.raises(CacheWriteError, match=str(tmp_path / "cache")), full_disk():
        run_experiment(wanted, settings(tmp_path), lambda *_: None, lambda _: None)
    record = run_experiment(wanted, settings(tmp_path), lambda *_: None, lambda _: None)
    assert [cell.status for cell in record.cells] == ["ok", "ok"]
    assert all(cost.cached for cost in record.cells[0].cost.values())


def test_an_error_of_the_stage_itself_is_not_the_caches(tmp_path):
    with pytest.raises(OSError, match="of the plugin") as caught, Cache(tmp_path).locked("stage", "key"):
        raise OSError("of the plugin")
    assert not isinstance(caught.value, CacheWriteError)
