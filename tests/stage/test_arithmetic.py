"""Threads and float32: fixed before any key is made, so that a run finds again what it computed."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from enginekit import context, experiment

from ptqbench.failures import PluginFault
from ptqbench.measuring.protocol import protocol, protocol_id
from ptqbench.process.snapshot import Snapshot
from ptqbench.process.torch_settings import ATTENTION
from ptqbench.running.cell import CellRun
from ptqbench.running.run import environment, previews, run_experiment
from ptqbench.stage import context as context_module
from ptqbench.stage.arithmetic import arithmetic, fix_arithmetic
from ptqbench.stage.cache import Cache, CacheWriteError, Costs, cached_tensors
from ptqbench.stage.context import RunContext, Settings, core_fingerprint

QUICK = ("model.network=plain", 'evaluation.metrics=["psnr"]')


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    """Another number than a run's, as on any machine with several cores."""
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(1)


def settings(cache: Path, workers: int = 1) -> Settings:
    return Settings(cache, "cpu", workers, 1)


def _full(*_: object) -> None:
    raise CacheWriteError("no space left on the device")


def test_a_fresh_run_has_previews_and_the_next_one_computes_nothing_and_loads_no_model(tmp_path, monkeypatch):
    made = experiment(*QUICK, methods=("nearest",))
    first = run_experiment(made, settings(tmp_path), lambda *_: None, lambda _: None)
    assert [label for label, _ in previews(made, settings(tmp_path))] == ["full-precision", "nearest W4A8"]
    torch.set_num_threads(3)
    monkeypatch.setattr(Cache, "locked", _full)
    assert protocol(RunContext.of(made, settings(tmp_path))) == first.protocol
    monkeypatch.undo()
    monkeypatch.setattr(RunContext, "model", property(lambda _: pytest.fail("loaded the model")))
    # Also with two workers: none is started, since nothing is announced.
    again = run_experiment(made, settings(tmp_path, 2), lambda *_: None, lambda _: pytest.fail("computed again"))
    assert [cell.metrics for cell in again.cells] == [cell.metrics for cell in first.cells]
    assert again.protocol == first.protocol


def test_threads_compute_one_after_the_other_and_leave_settings_as_they_were() -> None:
    before, seen = Snapshot(), list[str]()
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with arithmetic(1) as check:
            inside.set()
            assert leave.wait(10)
            check()
            seen.append("first")

    def second() -> None:
        with arithmetic(2) as check:
            seen.append("second")
            check()

    threads = [threading.Thread(target=function) for function in (first, second)]
    threads[0].start()
    assert inside.wait(10)
    threads[1].start()
    threads[1].join(0.2)
    leave.set()
    for thread in threads:
        thread.join(10)
    assert seen == ["first", "second"] and not before.moved()


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


def test_a_block_computes_as_a_run_does_and_leaves_everything_as_it_was():
    torch.set_default_dtype(torch.float64)
    torch.set_float32_matmul_precision("medium")
    F.scaled_dot_product_attention = print
    before = Snapshot()
    try:
        with torch.inference_mode(), arithmetic(2) as check:
            assert torch.get_default_dtype() == torch.float32
            assert torch.get_float32_matmul_precision() == "highest"
            assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
            assert F.scaled_dot_product_attention is ATTENTION
            assert torch.get_num_threads() == 2
            check()
            with arithmetic():
                assert torch.get_num_threads() == 2
        assert before.moved() == {}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")
        F.scaled_dot_product_attention = ATTENTION


def test_nothing_is_kept_of_what_was_computed_after_a_setting_moved(tmp_path):
    def make(parts):
        parts.save_json("before.json", [1])
        torch.set_default_dtype(torch.float64)
        with pytest.raises(PluginFault, match="default dtype"):
            parts.save_tensors("after.safetensors", {"x": torch.zeros(1)})
        return {"x": torch.zeros(1)}

    with pytest.raises(PluginFault, match="torch's default dtype") as caught:
        cached_tensors(Cache(tmp_path), Costs(), "stage", "key", make)
    assert "dtype=" in caught.value.hint
    assert torch.get_default_dtype() == torch.float32
    left = {path.name.partition("-")[0] for path in (tmp_path / "stage/key").iterdir()}
    assert left <= {"before.json", "cost.json", ".lock", ".sums"}


def test_a_default_of_the_process_has_no_part_in_a_stage(tmp_path):
    torch.set_default_dtype(torch.float64)
    try:
        made = cached_tensors(Cache(tmp_path), Costs(), "stage", "key", lambda _: {"x": torch.zeros(1)})
    finally:
        torch.set_default_dtype(torch.float32)
    assert made["x"].dtype == torch.float32


def test_variables_that_change_arithmetic_are_in_keys_protocols_and_records(tmp_path, monkeypatch):
    made = experiment(*QUICK, methods=("nearest",))
    plain, bound = context(tmp_path, made), made.evaluation.metrics[0]
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "STRICT")
    assert context(tmp_path, made).base_key == plain.base_key
    assert "arithmetic" not in {**protocol(plain), **environment(settings(tmp_path))}
    clean = protocol_id(plain, bound, bound.create(), 8)
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
    other = context(tmp_path, made)
    assert other.base_key != plain.base_key
    assert protocol_id(other, bound, bound.create(), 8) != clean
    assert protocol(other)["arithmetic"] == "float32 ONEDNN_DEFAULT_FPMATH_MODE=BF16"
    assert environment(settings(tmp_path))["arithmetic"] == "float32 ONEDNN_DEFAULT_FPMATH_MODE=BF16"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("computing_packages", {"torch": "0.1"}),
        ("hardware", {"cpu": "some", "accelerator": "some GPU"}),
        ("processor", "another processor"),
    ],
)
def test_packages_and_what_they_run_on_are_part_of_every_key(tmp_path, monkeypatch, name, found):
    before = context(tmp_path).base_key
    monkeypatch.setattr(context_module, name, lambda *_: found)
    assert context(tmp_path).base_key != before


def test_an_edited_comment_of_the_core_changes_no_key_and_a_changed_operator_does(tmp_path):
    """Hours of results hang on it: a comment of the core edited, then a docstring, then one operator of a formula."""
    core = Path(context_module.__file__).parents[1]
    shutil.copytree(core, tmp_path / "ptqbench")
    prediction = tmp_path / "ptqbench/stage/prediction.py"
    text = prediction.read_text(encoding="utf-8")

    def key(changed: str) -> str:
        prediction.write_text(changed, encoding="utf-8")
        return core_fingerprint.__wrapped__(tmp_path / "ptqbench")

    before = core_fingerprint.__wrapped__(core)
    assert key(text) == before
    assert key("# A new comment.\n\n" + text) == before
    assert key(text.replace('"""From what', '"""From all that')) == before
    assert key(text.replace("(x - signal * output)", "(x + signal * output)")) != before


def test_the_engine_s_fingerprint_covers_how_records_are_read(tmp_path):
    core = Path(context_module.__file__).parents[1]
    shutil.copytree(core, tmp_path / "ptqbench")
    before = core_fingerprint.__wrapped__(tmp_path / "ptqbench")
    record = tmp_path / "ptqbench/results/record.py"
    record.write_text(record.read_text(encoding="utf-8") + "\nCHANGED = 1\n", encoding="utf-8")
    assert core_fingerprint.__wrapped__(tmp_path / "ptqbench") != before


def test_a_cached_record_that_is_damaged_is_made_again_and_one_that_cannot_be_read_fails_its_cell_alone(tmp_path):
    ctx = context(tmp_path, experiment(*QUICK, methods=("nearest",)))
    run = CellRun(ctx, ctx.experiment.cells[0], lambda *_: None)
    assert run.run().status == "ok"
    (path,) = tmp_path.glob("cells/*/record.json")
    path.write_text("{}")
    assert run.run().status == "ok"
    # Without a checksum, nothing is known of damage.
    for sums in path.parent.glob(".sums-*"):
        sums.unlink()
    path.write_text("{}")
    assert "KeyError" in run.run().reason
    path.write_text("{")
    assert "cannot be read" in run.run().reason
