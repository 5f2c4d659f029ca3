"""Threads and float32: fixed before any key is made, so that a run finds again what it computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from enginekit import context, experiment

from ptqbench.engine import context as context_module
from ptqbench.engine.arithmetic import fix_arithmetic
from ptqbench.engine.cell import CellRun
from ptqbench.engine.context import RunContext, core_fingerprint
from ptqbench.engine.executor import Settings
from ptqbench.engine.run import previews, run_experiment
from ptqbench.engine.stages import EVALUATION_STAGES
from ptqbench.results import rows

QUICK = ("model.network=plain", 'evaluation.metrics=["psnr"]')


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    """Another number than a run's, as on any machine with several cores."""
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(1)


def settings(cache: Path, workers: int = 1) -> Settings:
    return Settings(cache, "cpu", workers, 1)


def test_a_fresh_run_has_previews_and_the_next_one_computes_nothing(tmp_path):
    made = experiment(*QUICK, methods=("nearest",))
    first = run_experiment(made, settings(tmp_path), lambda *_: None, lambda _: None)
    assert [label for label, _ in previews(made, settings(tmp_path))] == ["full-precision", "nearest W4A8"]
    torch.set_num_threads(3)
    # Also with two workers: none is started, since nothing is announced.
    again = run_experiment(made, settings(tmp_path, 2), lambda *_: None, lambda _: pytest.fail("computed again"))
    assert [cell.metrics for cell in again.cells] == [cell.metrics for cell in first.cells]


def test_a_context_of_settings_has_their_threads_in_its_key(tmp_path):
    made = experiment()
    one = RunContext.of(made, settings(tmp_path))
    assert torch.get_num_threads() == one.threads == 1
    assert one.base_key == RunContext.of(made, settings(tmp_path, 2)).base_key
    two = RunContext.of(made, dataclasses.replace(settings(tmp_path), threads=2))
    assert torch.get_num_threads() == 2
    assert two.base_key != one.base_key


def test_no_shortened_floats_and_no_kernels_in_any_order():
    cudnn = torch.backends.cudnn
    cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = True, False, True
    torch.backends.cuda.matmul.allow_tf32 = True
    fix_arithmetic(2)
    assert (cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark) == (False, True, False)
    assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("name", "found"),
    [("computing_packages", {"torch": "0.1"}), ("hardware", {"cpu": "some", "accelerator": "some GPU"})],
)
def test_packages_and_the_accelerator_are_part_of_every_key(tmp_path, monkeypatch, name, found):
    before = context(tmp_path).base_key
    monkeypatch.setattr(context_module, name, lambda *_: found)
    assert context(tmp_path).base_key != before


def test_the_engine_s_fingerprint_covers_how_records_are_read(tmp_path, monkeypatch):
    """Cached records are read by this file; stages that are no calibration are named in the engine."""
    root = Path(context_module.ptqbench.__file__).parent
    for file in ("results/record.py", "engine/stages.py"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_bytes((root / file).read_bytes())
    monkeypatch.setattr(context_module.ptqbench, "__file__", str(tmp_path / "__init__.py"))
    before = core_fingerprint.__wrapped__()
    (tmp_path / "results/record.py").write_text("changed")
    assert core_fingerprint.__wrapped__() != before
    assert rows.EVALUATION_STAGES is EVALUATION_STAGES


def test_a_cached_record_that_cannot_be_read_fails_its_cell_alone(tmp_path):
    ctx = context(tmp_path, experiment(*QUICK, methods=("nearest",)))
    run = CellRun(ctx, ctx.experiment.cells[0], lambda *_: None)
    assert run.run().status == "ok"
    (path,) = tmp_path.glob("cells/*/record.json")
    path.write_text("{}")
    assert "KeyError" in run.run().reason
    path.write_text("{")
    assert "cannot be read" in run.run().reason
