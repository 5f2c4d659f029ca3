"""What cannot work is known before anything is computed, told by whose input caused it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from enginekit import recipe
from torch import Tensor

from ptqbench.errors import EXIT_CELL_FAILED, EXIT_USAGE, UserError
from ptqbench.recipe.load import load_experiment
from ptqbench.running.preflight import Findings, preflight
from ptqbench.running.run import run_experiment
from ptqbench.stage.cache import Cache
from ptqbench.stage.context import RunContext, Settings


def context(tmp_path: Path, data: dict[str, Any] | None = None) -> RunContext:
    return RunContext(load_experiment(data or recipe()), Cache(tmp_path), torch.device("cpu"))


def test_a_recipe_that_works_has_no_problems_and_computes_nothing(tmp_path: Path) -> None:
    assert preflight(context(tmp_path)) == Findings()
    assert not list(tmp_path.rglob("*.safetensors"))


def without_samples() -> dict[str, Any]:
    """Calibration at a single step leaves step groups without samples to hold out."""
    data = recipe()
    data["calibration"]["trajectories"] = 40
    data["methods"]["gacq"]["sampler"] = {"use": "stride", "points": 1}
    return data


def test_a_step_group_without_samples(tmp_path: Path) -> None:
    found = preflight(context(tmp_path, without_samples()))
    assert (found.shared, list(found.cells), found.exit_code) == ([], ["gacq/W4A8/seed0"], EXIT_CELL_FAILED)
    assert "calibration samples, too few to hold out" in found.cells["gacq/W4A8/seed0"].message


@pytest.mark.parametrize(("points", "fails"), [(3, True), (5, False)])
def test_grids_of_each_step_need_samples_of_each(tmp_path: Path, points: int, fails: bool) -> None:
    """Told before the fits, after which ranges would refuse what they never saw."""
    data = recipe()
    data["methods"]["gacq"]["sampler"] = {"use": "stride", "points": points}
    data["methods"]["gacq"]["weighter"] = "uniform"
    data["methods"]["gacq"]["passes"] = ["finite-set"]
    data["calibration"]["trajectories"] = 16
    data["model"]["network"] = "unet"
    found = preflight(context(tmp_path, data)).cells
    assert list(found) == (["gacq/W4A8/seed0"] if fails else [])
    if fails:
        assert "no calibration samples of 2 of them" in found["gacq/W4A8/seed0"].message


def test_a_sampler_that_needs_more_trajectories(tmp_path: Path) -> None:
    data = without_samples()
    data["calibration"]["trajectories"] = 8
    found = preflight(context(tmp_path, data))
    assert (list(found.cells), found.exit_code) == (["gacq/W4A8/seed0"], EXIT_CELL_FAILED)
    assert "needs 40 trajectories" in found.cells["gacq/W4A8/seed0"].message


def test_the_run_fails_that_cell_at_once_and_computes_the_others(tmp_path: Path) -> None:
    data = without_samples()
    data["sweep"]["only"] = ["gacq", "nearest"]
    events: list[str] = []
    record = run_experiment(
        load_experiment(data),
        Settings(tmp_path, "cpu", 1, 1),
        lambda task, what, part: events.append(f"{task.label} {what}") if part >= 1 else None,
        lambda tasks: None,
    )
    status = {cell.id: cell.status for cell in record.cells}
    assert status == {"full-precision": "ok", "nearest/W4A8/seed0": "ok", "gacq/W4A8/seed0": "failed"}
    assert events[0] == "gacq/W4A8/seed0 failed"
    assert "too few to hold out" in record.cells[-1].reason


def reading_features(**options: Any) -> dict[str, Any]:
    """A sampler that chooses by features of trajectories, with options that they may not fit."""
    data = recipe()
    data["model"]["network"] = "plain"
    data["methods"]["gacq"]["sampler"] = {"use": "density-diversity", "tap": ["attention"], **options}
    return data


def test_a_sampler_that_reads_features_is_tried_with_them(tmp_path: Path) -> None:
    assert preflight(context(tmp_path, reading_features())) == Findings()
    found = preflight(context(tmp_path, reading_features(radius=1e6)))
    assert "gacq/W4A8/seed0" in found.cells and set(found.cells) == {c for c in found.cells if c.startswith("gacq/")}
    assert "tells no steps apart" in found.cells["gacq/W4A8/seed0"].message
    assert found.exit_code == EXIT_CELL_FAILED


def test_features_that_take_long_are_read_before_anything_is_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptqbench.running.preflight.PATIENCE", 0.0)
    data = reading_features(radius=1e6)
    data["sweep"]["only"] = ["gacq/W4A8", "nearest/W4A8"]
    ctx = context(tmp_path / "none", data)
    found = preflight(ctx)
    assert (found.cells, found.waiting) == ({}, ("gacq/W4A8/seed0",))
    assert not list((tmp_path / "none").rglob("*.safetensors"))
    events: list[str] = []
    record = run_experiment(
        ctx.experiment,
        Settings(tmp_path / "cache", "cpu", 1, 1),
        lambda task, what, part: events.append(f"{task.label} {what}".rstrip()) if part >= 1 else None,
        lambda tasks: None,
    )
    refused = events.index("gacq/W4A8/seed0 failed")
    assert events.index("calibration trajectories, seed 0") < refused < events.index("nearest/W4A8/seed0")
    assert "tells no steps apart" in next(cell.reason for cell in record.cells if cell.method == "gacq")


def broken(ctx: RunContext, change: Callable[[Any], None]) -> list[UserError]:
    change(ctx.model)
    return preflight(ctx).shared


def fails_late(model: Any) -> None:
    """A time embedding with fewer entries than the schedule has steps."""
    call = model.call

    def short(denoiser: Any, x: Tensor, t: Tensor, cond: Any) -> Tensor:
        torch.nn.functional.embedding(t, torch.zeros(2, 3))
        found: Tensor = call(denoiser, x, t, cond)
        return found

    model.call = short


def not_finite(model: Any) -> None:
    with torch.no_grad():
        next(model.denoiser.parameters()).fill_(float("nan"))


def channels(count: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        model.decode = lambda x: torch.zeros(len(x), count, 8, 8)

    return change


def on_the_unet() -> dict[str, Any]:
    data = recipe()
    data["model"]["network"] = "unet"
    return data


def odd_size(model: Any) -> None:
    """A size that does not halve, which the way up makes larger than the way down left it."""
    model.shape = (1, 7, 7)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (odd_size, "the denoiser fails at timestep"),
        (fails_late, "the denoiser fails at timestep"),
        (not_finite, "is not finite"),
        (channels(2), "the model's images are (1, 2, 8, 8)"),
        (channels(4), "(1, 4, 8, 8)"),
        (channels(6), "(1, 6, 8, 8)"),
    ],
)
def test_a_model_that_cannot_work_is_the_users_to_mend(tmp_path: Path, change: Callable[[Any], None], words: str) -> None:
    (error,) = broken(context(tmp_path, on_the_unet()), change)
    assert words in error.message
    assert error.exit_code == EXIT_USAGE
    assert error.hint


def test_problems_of_metrics_come_in_one_list(tmp_path: Path) -> None:
    data = recipe()
    data["sampling"]["images"] = 2
    data["evaluation"].update(features={"use": "inception", "weights": str(tmp_path / "none.pth")}, metrics=["fid", "psnr"])
    data["evaluation"]["probes"] = 2
    found = preflight(context(tmp_path, data))
    text = "\n".join(found.lines())
    assert "needs at least" in text and "Inception weights" in text
    assert found.exit_code == EXIT_USAGE
    with pytest.raises(UserError, match="2 problems before anything is computed"):
        found.require_shared()
