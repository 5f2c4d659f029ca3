"""What the forecast counts: features and images, in time and on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from enginekit import PLAIN, cell_of, context, experiment, quantized
from safetensors.torch import load_file

from ptqbench.boundary.build import build
from ptqbench.errors import UserError
from ptqbench.fitting.unit_capture import UnitCapture
from ptqbench.roles.reconstruction import Phase
from ptqbench.running import timing
from ptqbench.running.forecast import forecast, real_images
from ptqbench.running.run import run_experiment
from ptqbench.stage.context import RunContext, Settings

FEATURES = 'evaluation.metrics=["kid", "psnr"]'
NONE = 'evaluation.metrics=["psnr"]'
PHASE = Phase("rounding", frozenset({"rounding"}), True, "mixed")
REAL = 32
"""Images that the toy model brings."""


def made(cache: Path, *overrides: str) -> RunContext:
    """Full precision and round to nearest, twelve images each."""
    return context(cache, experiment("model.network=plain", "sampling.images=12", *overrides, methods=("nearest",)))


def tensor_bytes(cache: Path, pattern: str) -> int:
    return sum(t.numel() * t.element_size() for path in cache.glob(pattern) for t in load_file(path).values())


def test_disk_of_features_and_images_is_what_a_run_stores(tmp_path):
    ctx = made(tmp_path, FEATURES)
    run_experiment(ctx.experiment, Settings(tmp_path, "cpu", 1, 1), lambda *_: None, lambda _: None)
    mib = forecast(ctx).disk_mib - forecast(made(tmp_path, NONE)).disk_mib
    assert mib * 2**20 == pytest.approx(tensor_bytes(tmp_path, "features/*/*.safetensors"))
    # Two sets of images: full precision's and the method's.
    more = forecast(made(tmp_path, NONE, "sampling.images=13")).disk_mib - forecast(made(tmp_path, NONE)).disk_mib
    assert more * 2**20 == pytest.approx(tensor_bytes(tmp_path, "images/*/*.safetensors") / 12)


def test_time_of_features_is_counted_for_every_image(tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "_seconds", lambda run: run() is None or 4.0)
    ctx = made(tmp_path, FEATURES)
    found, without = forecast(ctx), forecast(made(tmp_path, NONE))
    each = 4.0 / timing.IMAGES
    assert found.features == pytest.approx((2 * 12 + REAL) * each)
    # The method's own images count for its cell, all others are shared.
    assert found.cells["nearest/W4A8/seed0"] - without.cells["nearest/W4A8/seed0"] == pytest.approx(12 * each)
    assert found.shared - without.shared == pytest.approx((12 + REAL) * each)
    assert (found.notes, without.features) == ((), 0.0)


def test_an_extractor_without_weights_is_left_out_and_named(tmp_path, monkeypatch):
    ctx = made(tmp_path, FEATURES)

    def missing(self: object, device: object) -> None:
        raise UserError("the weights are not on this machine", "download them")

    monkeypatch.setattr(type(ctx.extractor), "prepare", missing)
    found = forecast(ctx)
    assert found.notes == ("features are not timed: the weights are not on this machine",)
    assert found.features == 0.0
    assert found.wall(1) > 0


def test_real_images_in_files_are_counted_and_not_read(tmp_path):
    (tmp_path / "real").mkdir()
    for i in range(5):
        (tmp_path / "real" / f"{i}.png").write_bytes(b"not read")
    np.savez(tmp_path / "real.npz", np.zeros((7, 8, 8, 1), np.uint8))
    np.savez(tmp_path / "statistics.npz", mu=np.zeros(4), sigma=np.eye(4))
    counts = [
        real_images(made(tmp_path, f"evaluation.reference={tmp_path / name}"))
        for name in ("real", "real.npz", "statistics.npz")
    ]
    assert counts == [5, 7, 0]
    assert real_images(made(tmp_path)) == REAL


@pytest.mark.parametrize(("each", "calls"), [(0.01, 1 + timing.REPEATS), (0.25, 2), (2.0, 1)])
def test_a_call_that_takes_long_is_timed_less_often(monkeypatch, each, calls):
    now, made = [0.0], []

    def run() -> None:
        made.append(1)
        now[0] += each

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    assert timing._seconds(run) == pytest.approx(each)
    assert len(made) == calls


def fitted(cache: Path, samples: int) -> RunContext:
    """One method that fits its units, on so many samples."""
    words = (NONE, f"calibration.samples={samples}", f"calibration.trajectories={samples // 2}")
    return context(cache, experiment("model.network=plain", *words, methods=("qdiffusion",)))


def test_what_units_are_fitted_on_is_counted_as_far_as_it_stays_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("ptqbench.running.forecast.CAPTURE_BUDGET", 0)
    monkeypatch.setattr("ptqbench.running.forecast.REPLAY_BUDGET", 1)
    small, large = forecast(fitted(tmp_path, 8)), forecast(fitted(tmp_path, 24))
    ctx = fitted(tmp_path, 8)
    cell = cell_of(ctx, "qdiffusion")
    q, quantizer = quantized(ctx, cell)
    partitioner = build(cell.method.partitioner)
    units = partitioner.units(ctx.model.denoiser, ctx.probe)
    capture = UnitCapture(quantizer.samples, q, ctx.model.denoiser, PHASE, PLAIN, partitioner, units)
    taken = [2 * i.bytes_per_sample + o.bytes_per_sample for i, o in capture.single.values()]
    expected = 16 * max(taken) / 2**20
    assert expected / 1.5 < large.memory_mib - small.memory_mib < 1.5 * expected
    assert small.notes == ()
    monkeypatch.setattr("ptqbench.running.forecast.SPILL_FROM", 1)
    spilled = forecast(fitted(tmp_path, 24))
    assert spilled.memory_mib < small.memory_mib
    assert "TMPDIR" in spilled.notes[0]
    assert forecast(made(tmp_path, NONE)).notes == ()


def test_ranges_of_weights_are_counted_once_where_cells_share_them(tmp_path, monkeypatch):
    ctx = context(tmp_path, experiment("model.network=plain", NONE, methods=("qdiffusion", "ptq4dm", "nearest")))
    assert timing.seconds_per_weight(ctx, cell_of(ctx, "qdiffusion").method) > 0
    monkeypatch.setattr("ptqbench.running.forecast.seconds_per_weight", lambda *_: 1e6)
    assert {name for name, seconds in forecast(ctx).cells.items() if seconds > 1e6} == {
        "qdiffusion/W4A8/seed0",
        "nearest/W4A8/seed0",
    }
